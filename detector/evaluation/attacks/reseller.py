"""A14: a reseller's key that a laboratory uses too. Many end users, and among them a sub-stream of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while True:
        if member.rng.random() < campaign.cover_share:
            yield replace(next(cover), user=f"u{member.rng.randrange(150)}")
        else:
            yield replace(member.plain(member.next()), user=f"u{member.rng.randrange(3)}")


STRATEGY = Strategy(
    "A14", "proxy reseller", _asks, (Cell(1, 20_000), Cell(10, 20_000), Cell(1, 500_000)), cover=(0.5, 0.7),
    paces={"whole": 1.0},
)  # fmt: skip
