"""Declared uses held against the traffic: requests a day beside the cap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow.compute as pc

from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake, since

DAYS = 7


@dataclass(frozen=True)
class Usage:
    """Requests of an account since a use was granted it, on the last week's calendar days, UTC.

    All of the account's requests count: which of them belong to the use nobody can tell. `over` are days beyond the
    cap; None where there is no cap.
    """

    today: int
    peak: int
    over: int | None


def of_uses(lake: Lake, uses: Iterable[DeclaredUse]) -> dict[str, Usage]:
    """Return, by the use's id, what its account used."""
    known = list(uses)
    today = now().date()
    counted = _requests(lake, sorted({use.account for use in known}))
    return {use.id: _usage(use, counted, today) for use in known}


def _usage(use: DeclaredUse, counted: Counter[tuple[str, date]], today: date) -> Usage:
    first = max(use.created.date(), today - timedelta(days=DAYS - 1))
    days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
    requests = [counted[use.account, day] for day in days]
    over = None if use.cap_per_day is None else sum(1 for found in requests if found > use.cap_per_day)
    return Usage(counted[use.account, today], max(requests, default=0), over)


def _requests(lake: Lake, names: list[str]) -> Counter[tuple[str, date]]:
    if not names:
        return Counter()
    first = now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    chosen = pc.field("account").isin(names) & since(first)
    rows = lake.read(columns=["account", "time"], filter=chosen)
    days = pc.floor_temporal(rows["time"], unit="day")
    sums = rows.set_column(1, "time", days).group_by(["account", "time"]).aggregate([([], "count_all")])
    return Counter({(row["account"], row["time"].date()): row["count_all"] for row in sums.to_pylist()})
