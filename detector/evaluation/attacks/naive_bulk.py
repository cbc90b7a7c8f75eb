"""A1: naive bulk. Instruction after instruction, one turn each, as fast as it goes."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    while True:
        yield member.plain(member.next())


STRATEGY = Strategy(
    "A1",
    "naive bulk",
    _asks,
    (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)),
    paces={"window": 0.8, "nightly": 0.2},
)
