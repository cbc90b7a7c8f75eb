"""A16: pivot on release day. A set of accounts moves to the new model within a day and begins to collect."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import RELEASE_DAY, Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while member.day < RELEASE_DAY:
        yield next(cover)
    while True:
        yield elicited(member, member.next(), 0.3)


STRATEGY = Strategy(
    "A16", "release-day pivot", _asks, (Cell(10, 1_000), Cell(100, 20_000)), cover=(0.3, 0.5), paces={"whole": 1.0}
)
