"""What the pages say about traffic: sums by account, model and day, read from the lake and kept per lake version."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

COLUMNS = (
    "time",
    "account",
    "model",
    "model_role",
    "model_requested",
    "origin",
    "status",
    "route",
    "usage",
    "cost",
    "counterfactual_cost",
)
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
RECENT = timedelta(hours=24)


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


@dataclass(frozen=True)
class Figures:
    """All cells of one lake version, and those of each account."""

    cells: tuple[Cell, ...] = ()
    by_account: dict[str, list[Cell]] = field(default_factory=dict)

    def of(self, account: str) -> list[Cell]:
        """Return an account's cells."""
        return self.by_account.get(account, [])

    def since(self, first: date | None) -> list[Cell]:
        """Return the cells from a day on; all of them without a day."""
        return [cell for cell in self.cells if first is None or cell.day >= first]


def grouped(cells: Iterable[Cell], key: Callable[[Cell], Any]) -> dict[Any, Usage]:
    """Return the usage by whatever `key` makes of a cell."""
    groups: dict[Any, list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[key(cell)].append(cell)
    return {name: total(members) for name, members in groups.items()}


def days_back(count: int, today: date | None = None) -> list[date]:
    """Return the last `count` days, today included, oldest first."""
    last = today or now().date()
    return [last - timedelta(days=back) for back in reversed(range(count))]


class Traffic:
    """Reads the lake's figures; one reading serves every page until the lake has a newer version.

    Under steady traffic each commit is a new version, so a reading also serves for at least `minimum_age_s`, and for
    ten times as long as it took: a large lake costs at most a tenth of a core.
    """

    def __init__(self, lake: Lake, minimum_age_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._minimum_age_s = minimum_age_s
        self._clock = clock
        self._lock = threading.Lock()
        self._key: tuple[int, datetime] | None = None
        self._fresh_until = 0.0
        self._figures = Figures()

    def figures(self) -> Figures:
        """Return the sums as of now."""
        with self._lock:
            start = self._clock()
            if self._key is not None and start < self._fresh_until:
                return self._figures
            # The last 24 hours move although the lake stands still: a reading never serves beyond its minute.
            key = (self._lake.version() if self._lake.exists() else -1, now().replace(second=0, microsecond=0))
            if key != self._key:
                self._figures = summarise(self._lake.read(columns=list(COLUMNS)), now()) if key[0] >= 0 else Figures()
                self._key = key
            end = self._clock()
            self._fresh_until = end + max(self._minimum_age_s, 10 * (end - start))
            return self._figures

    def record(self, record_id: str) -> dict[str, Any] | None:
        """Return one traffic record, or None when the lake does not have it (any more)."""
        return self._lake.record(record_id) if self._lake.exists() else None


def summarise(table: pa.Table, moment: datetime) -> Figures:
    """Sum a table of traffic rows up."""
    prepared = _prepared(table, moment)
    sums = prepared.group_by(list(GROUP)).aggregate([(name, "sum") for name in SUMS] + [("time", "max")])
    cells = tuple(_cell(row) for row in sums.to_pylist())
    by_account: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_account[cell.account].append(cell)
    return Figures(cells, dict(by_account))


def _prepared(table: pa.Table, moment: datetime) -> pa.Table:
    time_column = pc.cast(table["time"], pa.timestamp("ms", "UTC"))
    output = _count(_inside(table["usage"], "output_tokens"))
    teacher = pc.fill_null(pc.equal(table["model_role"], "teacher"), False)
    teacher_tokens = _where(teacher, output)
    live = _as_int(pc.equal(table["origin"], "live"))
    recent = pc.greater_equal(time_column, pa.scalar(moment - RECENT, pa.timestamp("ms", "UTC")))
    auto = pc.fill_null(pc.equal(table["model_requested"], "auto"), False)
    saved = pc.fill_null(pc.subtract(table["counterfactual_cost"], table["cost"]), 0)
    columns = {
        "account": table["account"],
        "model": pc.fill_null(table["model"], ""),
        "model_role": pc.fill_null(table["model_role"], ""),
        "task": _inside(table["route"], "task"),
        "day": pc.cast(pc.floor_temporal(time_column, unit="day"), pa.date32()),
        "time": time_column,
        "requests": _as_int(pc.is_valid(table["account"])),
        "refused": _as_int(pc.greater_equal(table["status"], 400)),
        "input_tokens": _count(_inside(table["usage"], "input_tokens")),
        "output_tokens": output,
        "teacher_tokens": teacher_tokens,
        "cost": _count(table["cost"]),
        "saved": pc.multiply(saved, live),
        "live": live,
        "recent": _as_int(recent),
        "recent_tokens": _where(recent, teacher_tokens),
        "recent_auto_tokens": _where(pc.and_(recent, auto), teacher_tokens),
    }
    return pa.table(columns)


def _inside(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    return pc.struct_field(column, name)


def _count(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.fill_null(column, 0), pa.int64())


def _as_int(mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.fill_null(mask, False), pa.int64())


def _where(mask: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(mask, values, 0)


def _cell(row: dict[str, Any]) -> Cell:
    last = row["time_max"].astimezone(UTC)
    sums = {item.name: row[f"{item.name}_sum"] for item in fields(Usage) if item.name != "last"}
    usage = Usage(**sums, last=last)
    return Cell(row["account"], row["model"], row["model_role"], row["task"], row["day"], usage)
