"""B13: an application on a reasoning model. It asks for the working, and its answers are long."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    share = tenant.rng.uniform(0.3, 1.0)
    while True:
        yield elicited(tenant, tenant.next(), share)


PROFILE = Profile("B13", "reasoning-model application", _asks, share=1.0, volume=1.5, breadth=(0.05, 1.0))
