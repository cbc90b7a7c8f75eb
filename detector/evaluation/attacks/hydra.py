"""A9: hydra. Many accounts share out one pool of prompts, at the rate of an ordinary customer each."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    share = 0.3 if len(member.habits.client["user_agent"]) % 2 else 0.0
    while True:
        yield elicited(member, member.next(), share)


STRATEGY = Strategy(
    "A9", "hydra", _asks,
    (Cell(10, 1_000), Cell(10, 20_000), Cell(100, 20_000), Cell(100, 500_000), Cell(1_000, 500_000)),
    per_day=(26.0, 50.0),
)  # fmt: skip
