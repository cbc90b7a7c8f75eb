"""B15: a class or a hackathon. One network, accounts made on one day, each with its own ideas."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    single = tenant.rng.uniform(0.1, 0.9)
    while True:
        asked = tenant.popular(0.15)
        if tenant.rng.random() < single:
            yield tenant.plain(asked)
        else:
            yield from conversation(tenant, asked, tenant.rng.randint(2, 4))


PROFILE = Profile(
    "B15", "class or hackathon", _asks, share=1.3, volume=0.8, breadth=(0.1, 0.8), grouped=1.0,
    paces={"window": 0.7, "whole": 0.3},
)  # fmt: skip
