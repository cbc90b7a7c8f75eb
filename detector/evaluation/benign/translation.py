"""B7: a translation pipeline. Texts that never recur, answers as long as they are."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, translated
from detector.evaluation.phrasing import LANGUAGES
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    languages = tenant.rng.sample(LANGUAGES, tenant.rng.choice((1, 1, 1, 2, 5)))
    each = tenant.rng.random() < 0.5  # every text in every language, as for a web shop
    while True:
        item = tenant.next()
        for language in languages if each else [tenant.rng.choice(languages)]:
            yield translated(tenant, item, language)


PROFILE = Profile("B7", "translation pipeline", _asks, volume=2.0, breadth=(0.1, 1.0))
