"""A16: pivot on release day. A set of accounts moves to the new model within a day and begins to collect."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import RELEASE_DAY, Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while member.day < RELEASE_DAY:
        yield next(cover)
    explained, kept = member.rng.choice((0.0, 0.3, 0.7)), member.rng.choice((0.0, 0.0, 0.2))
    while True:
        # Some members go on with their ordinary use.
        yield next(cover) if member.rng.random() < kept else elicited(member, member.next(), explained)


STRATEGY = Strategy(
    "A16",
    "release-day pivot",
    _asks,
    (Cell(10, 1_000), Cell(100, 20_000)),
    cover=(0.3, 0.5),
    paces={"whole": 1.0},
    moves=RELEASE_DAY,
)
