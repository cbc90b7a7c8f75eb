"""A8: a slow drip. Under every limit, for weeks; only the coverage adds up."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    share, talks = member.rng.choice((0.0, 0.0, 0.5)), member.rng.choice((0.0, 0.0, 0.3))
    while True:
        item = member.next()
        if member.rng.random() < talks:
            yield from conversation(member, item, 2)
        else:
            yield elicited(member, item, share)


STRATEGY = Strategy("A8", "slow drip", _asks, (Cell(1, 1_000), Cell(10, 20_000)), paces={"drip": 1.0})
