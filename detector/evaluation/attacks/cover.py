"""A10: under cover. Half to four fifths of the traffic is ordinary use."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while True:
        if member.rng.random() < campaign.cover_share:
            yield next(cover)
        else:
            yield member.plain(member.next())


STRATEGY = Strategy("A10", "benign cover", _asks, (Cell(1, 1_000), Cell(10, 20_000)), cover=(0.5, 0.8))
