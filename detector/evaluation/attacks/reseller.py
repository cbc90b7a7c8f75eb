"""A14: a reseller's key that a laboratory uses too. Many end users, and among them a sub-stream of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover, rng = campaign.cover(), member.rng
    people, own, told = rng.randint(20, 400), rng.choice((1, 3, 20)), rng.random() < 0.7
    while True:
        if rng.random() < campaign.cover_share:
            yield replace(next(cover), user=f"u{rng.randrange(people)}" if told else None)
        else:
            yield replace(member.plain(member.next()), user=f"u{rng.randrange(own)}" if told else None)


STRATEGY = Strategy(
    "A14", "proxy reseller", _asks, (Cell(1, 20_000), Cell(10, 20_000), Cell(1, 500_000)), cover=(0.5, 0.7),
    paces={"whole": 1.0},
)  # fmt: skip
