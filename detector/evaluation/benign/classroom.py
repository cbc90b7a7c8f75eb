"""B15: a class or a hackathon. One network, accounts made on one day, each with its own ideas."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    while True:
        asked = tenant.next()
        if tenant.rng.random() < 0.5:
            yield tenant.plain(asked)
        else:
            yield from conversation(tenant, asked, tenant.rng.randint(2, 4))


PROFILE = Profile(
    "B15", "class or hackathon", _asks, share=1.3, volume=0.8, breadth=(0.1, 0.8), grouped=1.0,
    paces={"window": 0.7, "whole": 0.3},
)  # fmt: skip
