"""A10: under cover. Half to four fifths of the traffic is ordinary use."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    explained, run = member.rng.choice((0.0, 0.0, 0.3)), member.rng.choice((1, 1, 5, 40))
    while True:
        # Mixed request by request, or in runs.
        hidden = member.rng.random() < campaign.cover_share
        for _ in range(run):
            yield next(cover) if hidden else elicited(member, member.next(), explained)


STRATEGY = Strategy("A10", "benign cover", _asks, (Cell(1, 1_000), Cell(10, 20_000)), cover=(0.5, 0.8))
