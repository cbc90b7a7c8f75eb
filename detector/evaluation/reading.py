"""The simulated month as the detector meets it: imported into a lake, read back account by account.

An account's state depends on its own requests alone, so accounts are read in blocks and memory does not grow with the
world; what contenders learn from several accounts (peers, pools, thresholds) comes later, split by split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from detector import columns
from detector.columns import Columns
from detector.evaluation.planning import Plan, World
from detector.evaluation.simulation import START_S, History, Record, simulate
from detector.evaluation.traces import DAYS
from detector.sketch import DAY_S
from gateway.ledger.fingerprint import complete_all
from gateway.ledger.importing import BATCH_ROWS
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import Settings

BLOCK_REQUESTS = 40_000
MINIMUM_REQUESTS = 30  # below it an account is abstained on, whoever judges
Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # what, done, of how many


class Reader(Protocol):
    """What a contender keeps of accounts; requests are in event time, `places` says whose each is."""

    @property
    def name(self) -> str:
        """The contender's name."""
        ...

    def read(self, rows: Columns, places: npt.NDArray[np.int64], truth: Sequence[npt.NDArray[np.bool_]]) -> list[Any]:
        """Return what is kept of each account, in the order of `truth`: which requests harvested, for fitting."""
        ...


def each(rows: Columns, places: npt.NDArray[np.int64], count: int) -> list[Columns]:
    """Return each account's requests."""
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=count))
    return [rows.take(part) for part in np.split(order, ends[:-1])]


@dataclass
class Reading:
    """One account as read: the facts that figures need, and what each contender kept of it.

    `times` are seconds since the epoch and `tokens` teacher output tokens, shape (requests,); `harvest` is the truth.
    """

    plan: Plan
    times: Floats
    tokens: npt.NDArray[np.int64]
    harvest: npt.NDArray[np.bool_]
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def days(self) -> npt.NDArray[np.int64]:
        """The day of the month (0 to 27) of each request."""
        return np.asarray((self.times - START_S) // DAY_S, dtype=np.int64)

    def judged(self) -> npt.NDArray[np.bool_]:
        """Return the days on which the account was active and had `MINIMUM_REQUESTS` behind it, shape (28,)."""
        per_day = np.bincount(self.days, minlength=DAYS)[:DAYS]
        return np.asarray((per_day > 0) & (per_day.cumsum() >= MINIMUM_REQUESTS))

    def harvested(self) -> npt.NDArray[np.int64]:
        """Return the harvesting requests of each day, shape (28,)."""
        return np.bincount(self.days[self.harvest], minlength=DAYS)[:DAYS]


def bring_in(
    plans: Sequence[Plan],
    world: World,
    folder: Path,
    progress: Progress,
    watch: Callable[[History], None] = lambda _history: None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Simulate the plans into a lake below the folder; returns who harvested when, by account.

    `watch` sees every history as it is made. The records go in whole batches by the import's own steps (fingerprints,
    columns, commit), without the way through JSON and back; a test holds that the lake is the one of an import.
    """
    lake = Lake.of(Settings(data_dir=folder))
    truth: dict[str, npt.NDArray[np.bool_]] = {}
    batch: list[Record] = []
    for number, plan in enumerate(plans):
        history = simulate(plan, world)
        truth[plan.account] = history.harvest
        watch(history)
        batch += history.records
        if len(batch) >= BATCH_ROWS or number + 1 == len(plans):
            lake.append(to_table(complete_all(batch)))
            batch = []
        progress("simulated and imported", number + 1, len(plans))
    return truth


def read_back(
    plans: Sequence[Plan],
    truth: dict[str, npt.NDArray[np.bool_]],
    folder: Path,
    readers: Sequence[Reader],
    progress: Progress,
) -> list[Reading]:
    """Read every account from the lake and let each contender keep what it needs."""
    lake = Lake.of(Settings(data_dir=folder))
    readings: list[Reading] = []
    for block in _blocks(plans, truth):
        account = pc.field("account")
        within = (account >= block[0].account) & (account <= block[-1].account)
        rows = columns.read(lake.read(columns=columns.COLUMNS, filter=within))
        readings += _readings(block, rows, [truth[plan.account] for plan in block], readers)
        progress("read", len(readings), len(plans))
    return readings


def _blocks(plans: Sequence[Plan], truth: dict[str, npt.NDArray[np.bool_]]) -> Iterator[list[Plan]]:
    block: list[Plan] = []
    requests = 0
    for plan in plans:
        block.append(plan)
        requests += len(truth[plan.account])
        if requests >= BLOCK_REQUESTS:
            yield block
            block, requests = [], 0
    if block:
        yield block


def _readings(
    block: Sequence[Plan], rows: Columns, truth: Sequence[npt.NDArray[np.bool_]], readers: Sequence[Reader]
) -> list[Reading]:
    place_of = {plan.account: place for place, plan in enumerate(block)}
    places = np.array([place_of[name] for name in rows.names], dtype=np.int64)[rows.account]
    kept = {reader.name: reader.read(rows, places, truth) for reader in readers}
    found = []
    for place, (plan, own) in enumerate(zip(block, each(rows, places, len(block)), strict=True)):
        tokens = np.where(own.answered, np.nan_to_num(own.output), 0).astype(np.int64)
        mine = {name: one[place] for name, one in kept.items()}
        found.append(Reading(plan, own.time, tokens, truth[place], mine))
    return found
