"""A1: naive bulk. Instruction after instruction, one turn each, as fast as it goes."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import varied
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    changed = member.rng.choice((0.0, 0.0, 0.5, 1.0))  # prompts from a list, or from templates
    while True:
        item = member.next()
        yield member.plain(varied(member.rng, item) if member.rng.random() < changed else item)


STRATEGY = Strategy(
    "A1",
    "naive bulk",
    _asks,
    (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)),
    paces={"window": 0.75, "nightly": 0.15, "whole": 0.1},
)
