"""B7: a translation pipeline. Texts that never recur, answers as long as they are."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import LANGUAGES, Ask, Tenant, translated
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    language = tenant.rng.choice(LANGUAGES)
    while True:
        yield translated(tenant, tenant.next(), language)


PROFILE = Profile("B7", "translation pipeline", _asks)
