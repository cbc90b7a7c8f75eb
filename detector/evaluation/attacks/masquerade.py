"""A11: masquerade as RAG, as an agent or as a translator. Context is never used again, tools are never answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, filler, translated, with_context
from detector.evaluation.phrasing import LANGUAGES
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng = member.rng
    guise, blocks = rng.choice(("context", "context", "agent", "translator")), rng.randint(1, 4)
    language = rng.choice(LANGUAGES)
    reused = [filler(member, rng.randint(30, 120)) for _ in range(rng.choice((0, 0, 6)))]  # some make an effort
    while True:
        item = member.next()
        if guise == "agent":
            yield replace(member.plain(item), tools=member.tool_names)
        elif guise == "translator" and rng.random() < 0.7:
            yield replace(translated(member, item, language), output=member.answer_tokens(item))
        else:
            known = rng.sample(reused, min(len(reused), 1))
            fresh = [filler(member, rng.randint(20, 120)) for _ in range(blocks)]
            yield replace(with_context(member, item, known + fresh), output=member.answer_tokens(item))


STRATEGY = Strategy("A11", "masquerade as RAG or agent", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)))
