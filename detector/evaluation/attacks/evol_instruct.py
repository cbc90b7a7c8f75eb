"""A2: self-instruct and evol-instruct. Seeds grown into ever new instructions."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import Item, varied
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    grown: list[Item] = []
    while True:
        if grown and member.rng.random() < member.habits.repeats:
            yield member.plain(member.rng.choice(grown))
            continue
        seed = member.fresh()
        for _ in range(member.rng.randint(1, 4)):
            grown = [*grown[-200:], varied(member.rng, seed)]
            yield member.plain(grown[-1])


STRATEGY = Strategy("A2", "evol-instruct", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)))
