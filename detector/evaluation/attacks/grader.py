"""A5: harvest of a grader. One rubric over answers that never recur: a reward model's training set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, graded
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    reasoned = member.rng.random() < 0.3  # with a sentence or two of reasons
    while True:
        # An evaluation's items recur, a reward model's do not; only what failed is asked again.
        item = member.next() if member.rng.random() < 0.1 else member.fresh()
        ask = graded(member, item)
        yield replace(ask, output=ask.output + member.rng.randint(30, 150)) if reasoned else ask


STRATEGY = Strategy("A5", "grader harvesting", _asks, (Cell(1, 1_000), Cell(10, 20_000)))
