"""A3: a sweep through a benchmark. Public questions, subject after subject, for their answers."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    explained = member.rng.random() < 0.5
    while True:
        yield elicited(member, member.next(), 1.0 if explained else 0.0)


STRATEGY = Strategy(
    "A3", "benchmark topic sweep", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 1_000)), walk=True,
    paces={"window": 0.7, "whole": 0.3},
)  # fmt: skip
