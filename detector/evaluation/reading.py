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

from detector.evaluation.planning import Plan, World
from detector.evaluation.simulation import START_S, History, Record, simulate
from detector.evaluation.traces import DAYS
from detector.observations import COLUMNS, Observation, stream
from detector.watch import DAY_S
from gateway.ledger.fingerprint import complete_all
from gateway.ledger.importing import BATCH_ROWS
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table

BLOCK_REQUESTS = 40_000
MINIMUM_REQUESTS = 30  # below it an account is abstained on, whoever judges
Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]  # what, done, of how many


class Reader(Protocol):
    """What a contender keeps of one account; `seen` is in event time."""

    @property
    def name(self) -> str:
        """The contender's name."""
        ...

    def read(self, seen: Sequence[Observation]) -> Any:
        """Return what is kept."""
        ...


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
    lake = Lake(folder / "lake" / "traffic")
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
    lake = Lake(folder / "lake" / "traffic")
    readings: list[Reading] = []
    for block in _blocks(plans, truth):
        account = pc.field("account")
        within = (account >= block[0].account) & (account <= block[-1].account)
        seen: dict[str, list[Observation]] = {plan.account: [] for plan in block}
        for observation in stream(lake.read(columns=COLUMNS, filter=within)):
            seen[observation.account].append(observation)
        for plan in block:
            readings.append(_reading(plan, seen.pop(plan.account), truth[plan.account], readers))
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


def _reading(plan: Plan, seen: list[Observation], harvest: npt.NDArray[np.bool_], readers: Sequence[Reader]) -> Reading:
    tokens = [0 if np.isnan(one.output) or not one.teacher else int(one.output) for one in seen]
    reading = Reading(plan, np.array([one.time for one in seen]), np.array(tokens, dtype=np.int64), harvest)
    reading.kept = {reader.name: reader.read(seen) for reader in readers}
    return reading
