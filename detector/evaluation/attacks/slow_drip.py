"""A8: a slow drip. Under every limit, for weeks; only the coverage adds up."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    while True:
        yield member.plain(member.next())


STRATEGY = Strategy("A8", "slow drip", _asks, (Cell(1, 1_000), Cell(10, 20_000)), paces={"drip": 1.0})
