"""A12: account takeover. An ordinary customer's account changes hands, and its use, from one hour to the next."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while member.progress < campaign.cover_share:
        yield next(cover)
    kept, share = member.rng.choice((0.0, 0.0, 0.3)), member.rng.choice((0.0, 0.5))
    while True:
        # The owner may not have noticed, and works on.
        yield next(cover) if member.rng.random() < kept else elicited(member, member.next(), share)


STRATEGY = Strategy(
    "A12", "account takeover", _asks, (Cell(1, 1_000), Cell(10, 1_000)), cover=(0.3, 0.7), paces={"whole": 1.0}
)
