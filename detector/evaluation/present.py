"""The detector under test, replayed account by account with its own code, its peers and isolation fitted per split.

`watch.Watch` does the same in one pass over all accounts; here the levels of evidence and the feature rows at which it
would look up an account's standing are kept, so that a split costs one fit and no second replay. Before an account's
first alert both look every 25 requests; after it the watch looks less often, which moves no alert.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector import reference
from detector.account import Account
from detector.evaluation.contenders import Learns, day_ends
from detector.evaluation.reading import MINIMUM_REQUESTS, Floats, Reading
from detector.evaluation.simulation import START_S
from detector.evaluation.traces import DAYS
from detector.features import FEATURES, row_of
from detector.observations import Observation
from detector.scoring import ALERT, STEEPNESS, Standing
from detector.watch import DAY_S, MOST_PEERS, STANDING_EVERY, WORTH_STANDING

WEIGHED_EVERY = 25  # accounts, for the size of a state


@dataclass(frozen=True)
class Signal:
    """What is kept of an account. `level` has one entry a request, the rows those of `FEATURES`.

    `looked`: the requests at which the standing is looked up; `days`: the active days, whose rows are peers' rows.
    """

    level: npt.NDArray[np.float32]
    looked: npt.NDArray[np.int64]
    looked_rows: npt.NDArray[np.float32]
    days: npt.NDArray[np.int64]
    day_rows: npt.NDArray[np.float32]
    cell: str


@dataclass
class Cost:
    """Seconds of CPU and requests of replaying, and the bytes of accounts' states."""

    seconds: float = 0.0
    requests: int = 0
    state_bytes: list[int] = field(default_factory=list)


class PresentDetector:
    """The detector as it ships; `blind` takes from each observation what an ablation does without."""

    learns: Learns = "everyone"

    def __init__(self, name: str = "detector", blind: Callable[[Observation], Observation] | None = None) -> None:
        self.name = name
        self.cost = Cost()
        self._blind = blind
        self._accounts = 0
        self._standing = Standing().fit(reference.ordinary())

    def read(self, seen: Sequence[Observation]) -> Signal:
        """Replay the account."""
        shown = seen if self._blind is None else [self._blind(one) for one in seen]
        began = time.process_time()
        signal, account = _replay(shown)
        self.cost.seconds += time.process_time() - began
        self.cost.requests += len(seen)
        if self._accounts % WEIGHED_EVERY == 0:
            self.cost.state_bytes.append(len(pickle.dumps(account)))
        self._accounts += 1
        return signal

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Fit peers and isolation on the days of accounts that gave no cause for an alert, beside the reference."""
        rows, cells = [], []
        for reading in readings:
            signal: Signal = reading.kept[self.name]
            chosen = days[signal.days] & reading.judged()[signal.days]
            if chosen.any() and signal.level.max(initial=0.0) < 1.0:
                rows.append(signal.day_rows[chosen])
                cells += [signal.cell] * int(chosen.sum())
        known = reference.ordinary()
        if rows:
            own = pd.DataFrame(np.concatenate(rows).astype(np.float64), columns=list(FEATURES)).assign(cell=cells)
            most = min(len(own), MOST_PEERS - len(known))
            own = own.sample(most, random_state=0).sort_index()
            known = pd.concat([known, own], ignore_index=True)
        self._standing = Standing().fit(known)

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return each day's highest score."""
        scores = np.zeros((len(readings), DAYS))
        for row, (reading, found) in enumerate(zip(readings, self._by_request(readings), strict=True)):
            if len(found):
                np.maximum.at(scores[row], reading.days, found)
        return scores

    def alerts(self, readings: Sequence[Reading]) -> npt.NDArray[np.int64]:
        """Return the number of requests that had passed at each account's first alert, -1 where there was none."""
        found = np.full(len(readings), -1)
        for row, scores in enumerate(self._by_request(readings)):
            crossed = np.flatnonzero(scores[MINIMUM_REQUESTS - 1 :] >= ALERT)
            if len(crossed):
                found[row] = crossed[0] + MINIMUM_REQUESTS
        return found

    def _by_request(self, readings: Sequence[Reading]) -> list[Floats]:
        signals: list[Signal] = [reading.kept[self.name] for reading in readings]
        rows = [signal.looked_rows for signal in signals]
        cells = [signal.cell for signal in signals for _ in signal.looked]
        standing = np.zeros(0)
        if cells:
            values = np.concatenate(rows).astype(np.float64)
            frame = pd.DataFrame(values, columns=list(FEATURES)).assign(cell=cells)
            standing = self._standing.decision_function(frame)
        ends = np.cumsum([len(signal.looked) for signal in signals])
        parts = np.split(standing, ends[:-1]) if len(signals) else []
        return [_scores(signal, part) for signal, part in zip(signals, parts, strict=True)]


def _replay(seen: Sequence[Observation]) -> tuple[Signal, Account]:
    account = Account(seen[0].account if seen else "")
    level = np.zeros(len(seen), dtype=np.float32)
    looked, looked_rows, day_rows = [], [], []
    last = -STANDING_EVERY
    day_of = np.array([int((one.time - START_S) // DAY_S) for one in seen], dtype=np.int64)
    ends = {end: day for day, end in day_ends(seen, day_of)}
    for number, one in enumerate(seen):
        account.observe(one)
        level[number] = account.cusum.level
        if level[number] >= WORTH_STANDING and number + 1 - last >= STANDING_EVERY:
            looked.append(number)
            looked_rows.append(_row(account, one.time))
            last = number + 1
        if number + 1 in ends:
            day_rows.append(_row(account, one.time))
    signal = Signal(
        level, np.array(looked, dtype=np.int64), _table(looked_rows), np.array(list(ends.values()), dtype=np.int64),
        _table(day_rows), account.cell,
    )  # fmt: skip
    return signal, account


def _row(account: Account, moment: float) -> list[float]:
    row: dict[str, Any] = row_of(account, moment)
    return [row[name] for name in FEATURES]


def _table(rows: list[list[float]]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32).reshape(-1, len(FEATURES))


def _scores(signal: Signal, standing: Floats) -> Floats:
    level = signal.level.astype(np.float64)
    place = np.searchsorted(signal.looked, np.arange(len(level)), side="right") - 1
    known = (place >= 0) & (level >= WORTH_STANDING)
    shift = np.where(known, standing[np.maximum(place, 0)], 0.0) if len(standing) else np.zeros(len(level))
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-(STEEPNESS * np.log(level) + shift))))


def without_content(seen: Observation) -> Observation:
    """Take away all that text tells: words, fingerprints, conversations; sizes, parameters and end users remain."""
    return replace(
        seen, turns=float("nan"), answered_tools=False, conversation=None, skeleton=None, application=None,
        elicits=False, system_elicits=False, grades=False, minhash=None, embedding=None, has_text=False,
    )  # fmt: skip


def without_text(seen: Observation) -> Observation:
    """Take away the text alone: fingerprints remain, as where no text is kept."""
    return replace(seen, elicits=False, system_elicits=False, grades=False, has_text=False, answered_tools=False)
