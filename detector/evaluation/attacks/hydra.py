"""A9: hydra. Many accounts share out one pool of prompts, at the rate of an ordinary customer each."""

from __future__ import annotations

import random
from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    plan = random.Random(f"hydra {campaign.members} {member.corpus.name} {campaign.overlap}")  # alike for all members
    share, talks = plan.choice((0.0, 0.0, 0.3, 0.8)), plan.choice((0.0, 0.0, 0.2))
    while True:
        item = member.next()
        if member.rng.random() < talks:
            yield from conversation(member, item, member.rng.randint(2, 3))
        else:
            yield elicited(member, item, share)


STRATEGY = Strategy(
    "A9", "hydra", _asks,
    (Cell(10, 1_000), Cell(10, 20_000), Cell(100, 20_000), Cell(100, 500_000), Cell(1_000, 500_000)),
    per_day=(20.0, 60.0),
)  # fmt: skip
