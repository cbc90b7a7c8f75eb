"""A5: harvest of a grader. One rubric over answers that never recur: a reward model's training set."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, graded
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    while True:
        yield graded(member, member.next())


STRATEGY = Strategy("A5", "grader harvesting", _asks, (Cell(1, 1_000), Cell(10, 20_000)))
