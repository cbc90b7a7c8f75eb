"""A3: a sweep through a benchmark. Public questions, subject after subject, for their answers."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.content import reworded
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    explained, changed = member.rng.choice((0.0, 0.0, 0.5, 1.0)), member.rng.choice((0.0, 0.0, 1.0))
    while True:
        item = member.next()
        # Some paraphrase what is too well known.
        yield elicited(member, reworded(member.rng, item) if member.rng.random() < changed else item, explained)


STRATEGY = Strategy(
    "A3", "benchmark topic sweep", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 1_000)), walk=True,
    paces={"window": 0.7, "whole": 0.3},
)  # fmt: skip
