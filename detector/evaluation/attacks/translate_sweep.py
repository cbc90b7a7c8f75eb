"""A13: a multilingual sweep. The same content in language after language, for a multilingual student."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, translated
from detector.evaluation.phrasing import LANGUAGES
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    languages = member.rng.sample(LANGUAGES, member.rng.randint(2, 6))
    answers = member.rng.random() < 0.5
    while True:
        item = member.next()
        for language in languages:
            if answers:
                yield member.plain(item, f"{item.text}\nAnswer in {language}.")
            else:
                yield translated(member, item, language)


STRATEGY = Strategy("A13", "multilingual translate sweep", _asks, (Cell(1, 1_000), Cell(100, 20_000)))
