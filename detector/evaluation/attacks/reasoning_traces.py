"""A4: elicitation of chains of thought. The working is what is collected."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    share = member.rng.uniform(0.6, 1.0)
    while True:
        yield elicited(member, member.next(), share)


STRATEGY = Strategy("A4", "chain-of-thought elicitation", _asks, (Cell(1, 1_000), Cell(10, 20_000)))
