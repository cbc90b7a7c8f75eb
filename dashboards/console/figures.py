"""Sums of traffic by account, model and day, kept as columns: a million accounts are grouped in a moment."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger.identifiers import now

GROUP = ("account", "model", "model_role", "task", "day")
SUMS = (
    "requests",
    "refused",
    "input_tokens",
    "output_tokens",
    "teacher_tokens",
    "cost",
    "saved",
    "live",
    "recent",
    "recent_tokens",
    "recent_auto_tokens",
)
SCHEMA = pa.schema(
    [(name, pa.date32() if name == "day" else pa.string()) for name in GROUP]
    + [(name, pa.int64()) for name in SUMS]
    + [("last", pa.timestamp("ms", "UTC"))]
)


@dataclass(frozen=True)
class Usage:
    """Sums over requests. Money is nano-dollars; `teacher_tokens` are output tokens of teachers.

    `saved` is what the teacher would have cost less what was paid, over live requests only. The fields `recent…` cover
    the last 24 hours; `recent_auto_tokens` are teacher tokens of requests that left the choice of the model to us.
    """

    requests: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    teacher_tokens: int = 0
    cost: int = 0
    saved: int = 0
    live: int = 0
    recent: int = 0
    recent_tokens: int = 0
    recent_auto_tokens: int = 0
    last: datetime | None = None

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Cell:
    """The usage of one account with one model on one day; `task` is the student's task where a student was asked."""

    account: str
    model: str
    role: str
    task: str | None
    day: date
    usage: Usage


def total(cells: Iterable[Cell]) -> Usage:
    """Add cells up."""
    sums = dict.fromkeys(SUMS, 0)
    last: datetime | None = None
    for cell in cells:
        for name in SUMS:
            sums[name] += getattr(cell.usage, name)
        moment = cell.usage.last
        last = moment if last is None or (moment is not None and moment > last) else last
    return Usage(**sums, last=last)


def grouped(cells: Iterable[Cell], key: Callable[[Cell], Any]) -> dict[Any, Usage]:
    """Return the usage by whatever `key` makes of a cell; for the cells of one account, which are few."""
    groups: dict[Any, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return {name: total(members) for name, members in groups.items()}


def days_back(count: int, today: date | None = None) -> list[date]:
    """Return the last `count` days, today included, oldest first."""
    last = today or now().date()
    return [last - timedelta(days=back) for back in reversed(range(count))]


@dataclass(frozen=True, eq=False)
class Figures:
    """The sums of one lake version: a row for each of `GROUP`'s combinations, in the order of the accounts.

    What was grouped once is kept for as long as the figures are.
    """

    table: pa.Table = field(default_factory=SCHEMA.empty_table)
    _kept: dict[tuple[Any, ...], pa.Table] = field(default_factory=dict)

    def of(self, account: str) -> list[Cell]:
        """Return an account's cells."""
        column = self.table["account"]
        start = bisect_left(range(len(column)), account, key=lambda place: column[place].as_py())
        end = bisect_left(range(len(column)), True, start, key=lambda place: column[place].as_py() > account)
        return [_cell(row) for row in self.table.slice(start, end - start).to_pylist()]

    def sums(self, *by: str, since: date | None = None) -> pa.Table:
        """Return the sums by some of `GROUP`'s columns, from a day on: these columns, `SUMS` and `last`."""
        return self._keep(("sums", since, *by), lambda: self._grouped(by, since))

    def ranked(self, *by: str, since: date | None = None) -> pa.Table:
        """Return the same, the costliest first."""
        order = [("cost", "descending"), ("requests", "descending"), *((name, "ascending") for name in by)]
        return self._keep(("ranked", since, *by), lambda: self.sums(*by, since=since).sort_by(order))

    def usage(self, *by: str, since: date | None = None) -> dict[Any, Usage]:
        """Return the usage by the values of some columns (a tuple of them where they are several)."""
        rows = self.sums(*by, since=since).to_pylist()
        return {row[by[0]] if len(by) == 1 else tuple(row[name] for name in by): usage_of(row) for row in rows}

    def total(self, since: date | None = None) -> Usage:
        """Return the usage of everyone together."""
        return next((usage_of(row) for row in self.sums(since=since).to_pylist()), Usage())

    @cached_property
    def rates(self) -> str:
        """Teacher tokens of the last 24 hours by account, where there are any, as a JSON object in text."""
        sums = self.sums("account").select(["account", "recent_tokens"])
        some = sums.filter(pc.greater(sums["recent_tokens"], 0))
        return json.dumps(dict(zip(some["account"].to_pylist(), some["recent_tokens"].to_pylist(), strict=True)))

    def _keep(self, key: tuple[Any, ...], make: Callable[[], pa.Table]) -> pa.Table:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _grouped(self, by: tuple[str, ...], since: date | None) -> pa.Table:
        table = self.table if since is None else self.table.filter(pc.greater_equal(self.table["day"], since))
        wanted = [(name, "sum") for name in SUMS] + [("last", "max")]
        sums = table.group_by(list(by)).aggregate(wanted)
        names = {f"{name}_{how}": name for name, how in wanted}
        return sums.rename_columns([names.get(name, name) for name in sums.column_names])


def usage_of(row: dict[str, Any]) -> Usage:
    """Return the usage that a row of sums tells."""
    sums = {item.name: row[item.name] or 0 for item in fields(Usage) if item.name != "last"}
    return Usage(**sums, last=row["last"].astimezone(UTC) if row["last"] is not None else None)


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(row["account"], row["model"], row["model_role"], row["task"], row["day"], usage_of(row))
