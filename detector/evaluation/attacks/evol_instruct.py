"""A2: self-instruct and evol-instruct. Seeds grown into ever new instructions, none of which returns."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import varied
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    while True:
        seed = member.next()
        for _ in range(member.rng.randint(1, 4)):
            yield member.plain(varied(member.rng, seed))


STRATEGY = Strategy("A2", "evol-instruct", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)))
