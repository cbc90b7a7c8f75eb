"""The lake as the pages see it: its sums, read anew behind their backs, and single records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dashboards.console.figures import GROUP, SCHEMA, SUMS, Figures
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import from_row

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
RECENT = timedelta(hours=24)
LOG = logging.getLogger("spiritsafe.console")


class Traffic:
    """Reads the lake's figures; one reading serves every page until the lake has a newer version.

    Under steady traffic each commit is a new version, so a reading also serves for at least `minimum_age_s`, and for
    ten times as long as it took: a large lake costs at most a tenth of a core. A page that comes later gets the last
    reading while the next one is made, unless that is older than `stale_s`: then it waits.
    """

    def __init__(
        self,
        lake: Lake,
        minimum_age_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
        stale_s: float = 120.0,
    ) -> None:
        self._lake = lake
        self._minimum_age_s = minimum_age_s
        self._stale_s = stale_s
        self._clock = clock
        self._lock = threading.Lock()
        self._key: tuple[int, datetime] | None = None
        self._fresh_until = 0.0
        self._figures = Figures()

    def figures(self) -> Figures:
        """Return the sums as of now, or as of a moment ago."""
        if self._key is None or self._clock() >= self._fresh_until + self._stale_s:
            with self._lock:
                self._refresh()
        elif self._clock() >= self._fresh_until and self._lock.acquire(blocking=False):
            # Taken here and given back there, so that one thread reads and nobody waits for it.
            threading.Thread(target=self._refresh_behind, daemon=True).start()
        return self._figures

    def records(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return traffic records by id, in one reading; those that the lake does not have (any more) are missing."""
        if not ids or not self._lake.exists():
            return {}
        rows = self._lake.read(filter=pc.field("id").isin(pa.array(ids, pa.string())))
        return {row["id"]: from_row(row) for row in rows.to_pylist()}

    def _refresh_behind(self) -> None:
        try:
            self._refresh()
        except Exception:
            LOG.exception("the figures of the traffic could not be read anew; the pages show the last ones")
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        start = self._clock()
        if self._key is not None and start < self._fresh_until:
            return
        # The last 24 hours move although the lake stands still: a reading never serves beyond its minute.
        key = (self._lake.version() if self._lake.exists() else -1, now().replace(second=0, microsecond=0))
        if key != self._key:
            self._figures = summarise(self._lake.read(columns=list(COLUMNS)), now()) if key[0] >= 0 else Figures()
            self._key = key
        end = self._clock()
        self._fresh_until = end + max(self._minimum_age_s, 10 * (end - start))


def summarise(table: pa.Table, moment: datetime) -> Figures:
    """Sum a table of traffic rows up."""
    wanted = [(name, "sum") for name in SUMS] + [("time", "max")]
    sums = _prepared(table, moment).group_by(list(GROUP)).aggregate(wanted)
    names = {f"{name}_sum": name for name in SUMS} | {"time_max": "last"}
    renamed = sums.rename_columns([names.get(name, name) for name in sums.column_names])
    return Figures(renamed.select(SCHEMA.names).cast(SCHEMA).sort_by("account").combine_chunks())


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
