"""The detector under test: its own states and looks, its trees fitted anew in every fold by its own recipe.

`watch.Watch` brings the same states forward; here what they looked like at each checkpoint is kept, so that a fold
costs one fit and no second replay. Linked sets are found once (`linked`), scored anew in each fold, and speak for their
members as they do in the service. Ablations share the fit and lose their channel before it is asked; but for the one of
the sets alone they go without sets, so they are to be compared with that one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector import features, fitting, scoring, sequential, sketch
from detector.checkpoints import Follower
from detector.columns import Columns
from detector.evaluation.contenders import Learns
from detector.evaluation.hydra import no_sets
from detector.evaluation.linked import SetFits
from detector.evaluation.reading import Floats, Reading
from detector.evaluation.simulation import START_S
from detector.evaluation.traces import DAYS
from detector.fitting import Looks, Recipe
from detector.scoring import Model
from detector.sketch import DAY_S, States

IN_FOLD = Recipe(boosters=1, trees=24, rate=0.2, folds=2)  # a fold's fit; there are fifty of them


@dataclass(frozen=True)
class Signal:
    """What is kept of an account: its features at each look, shape (looks, features), and when that was.

    `requests`: how many had passed, `today`: of that day; `days`: of the month, 0 to 27; `harvested`: how many had
    harvested by then.
    """

    values: npt.NDArray[np.float32]
    requests: npt.NDArray[np.int64]
    today: npt.NDArray[np.int64]
    days: npt.NDArray[np.int64]
    ends_day: npt.NDArray[np.bool_]
    harvested: npt.NDArray[np.int64]


@dataclass
class Cost:
    """Seconds of CPU and requests of bringing states forward and looking at them."""

    seconds: float = 0.0
    requests: int = 0


@dataclass(frozen=True)
class Fitted:
    """A fold's model, and what trees that had not seen them say of the accounts it was fitted on, on those days.

    Thresholds are frozen on the latter: of what they have learnt by heart trees are too sure. `sets`: by how much the
    newest set of each account exceeds an alert's log-odds at the end of each day, shape (accounts, 28), -inf: none.
    """

    model: Model
    unseen: dict[str, Floats]
    days: npt.NDArray[np.bool_]
    sets: dict[str, Floats]


class Fits:
    """The model of each fold, fitted once for all that share it. `linked`: the month's sets, once they are found."""

    def __init__(self, recipe: Recipe = IN_FOLD) -> None:
        self.linked: SetFits | None = None
        self._recipe = recipe
        self._known: dict[int, Fitted] = {}

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_], kept: str) -> Fitted:
        """Return what is fitted on these accounts and days."""
        key = hash((tuple(reading.plan.account for reading in readings), days.tobytes()))
        if key not in self._known:
            model, odds = fitting.fit(looks_of(readings, days, kept), self._recipe, {})
            sizes = [int(days[reading.kept[kept].days].sum()) for reading in readings]
            parts = np.split(odds, np.cumsum(sizes)[:-1])
            unseen = {reading.plan.account: part for reading, part in zip(readings, parts, strict=True)}
            self._known[key] = Fitted(
                model, unseen, days, {} if self.linked is None else self.linked.said(readings, days)
            )
        return self._known[key]


class LearntDetector:
    """The detector as it ships; `without`: the channel that an ablation does without, "sets" being one of them."""

    learns: Learns = "labels"

    def __init__(self, fits: Fits, name: str = "detector", without: str | None = None, kept: str = "detector") -> None:
        self.name = name
        self.cost = Cost()
        self._fits, self._kept, self._alone = fits, kept, without is not None
        self._without = None if without == "sets" else without
        self._fit: Fitted | None = None

    def read(
        self, rows: Columns, places: npt.NDArray[np.int64], truth: Sequence[npt.NDArray[np.bool_]]
    ) -> list[Signal]:
        """Bring the accounts' states forward and look at them at every checkpoint."""
        began = time.process_time()
        signals = follow(rows, places, truth)
        self.cost.seconds += time.process_time() - began
        self.cost.requests += len(rows)
        return signals

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Fit trees, calibration and bounds on the looks of these days."""
        self._fit = self._fits.fit(readings, days, self._kept)

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return each day's highest score."""
        scores = np.zeros((len(readings), DAYS))
        for row, (signal, found) in enumerate(self._by_look(readings)):
            np.maximum.at(scores[row], signal.days, found)
        odds = np.log(self._fitted().alert / (1 - self._fitted().alert))
        return np.asarray(np.maximum(scores, 1.0 / (1.0 + np.exp(-odds - self._by_set(readings)))))

    def sets(self, readings: Sequence[Reading]) -> npt.NDArray[np.int64]:
        """Return the set that each account is in at the end of each day, shape (accounts, 28), -1: none."""
        return no_sets(len(readings)) if self._fits.linked is None else self._fits.linked.membership(readings)

    def alerts(self, readings: Sequence[Reading]) -> npt.NDArray[np.int64]:
        """Return the number of requests that had passed at each account's first alert, -1 where there was none."""
        alert = self._fitted().alert
        found = np.full(len(readings), -1)
        for row, (signal, scores) in enumerate(self._by_look(readings)):
            crossed = np.flatnonzero(scores >= alert)
            if len(crossed):
                found[row] = signal.requests[crossed[0]]
        flagged = self._by_set(readings) >= 0
        for row in np.flatnonzero(flagged.any(axis=1)).tolist():
            passed = int((readings[row].days <= flagged[row].argmax()).sum())
            found[row] = passed if found[row] < 0 else min(passed, int(found[row]))
        return found

    def _by_set(self, readings: Sequence[Reading]) -> Floats:
        """Return by how much sets exceed an alert's log-odds, shape (accounts, 28); a declared use lowers it."""
        if self._alone or self._fit is None or not self._fit.sets:
            return np.full((len(readings), DAYS), -np.inf)
        lowered = np.log(scoring.DECLARED) * np.stack([_covered_days(reading) for reading in readings])
        return np.asarray(np.stack([self._fit.sets[reading.plan.account] for reading in readings]) - lowered)

    def _fitted(self) -> Model:
        return scoring.shipped() if self._fit is None else self._fit.model

    def _by_look(self, readings: Sequence[Reading]) -> list[tuple[Signal, Floats]]:
        model = self._fitted()
        signals: list[Signal] = [reading.kept[self._kept] for reading in readings]
        values = np.concatenate([signal.values for signal in signals])
        if self._without is not None:
            values = features.masked(values, self._without)
        ends = np.cumsum([len(signal.days) for signal in signals])[:-1]
        account = np.repeat(np.arange(len(signals)), [len(signal.days) for signal in signals])
        odds = np.split(sequential.smoothed(model.log_odds(values), account), ends)
        if self._fit is not None and self._without is None:
            for reading, signal, own in zip(readings, signals, odds, strict=True):
                if reading.plan.account in self._fit.unseen:
                    own[self._fit.days[signal.days]] = self._fit.unseen[reading.plan.account]
        declared = np.concatenate(list(map(_covered, readings, signals)))
        scores = model.scores_at(np.concatenate(odds), values, declared)
        return list(zip(signals, np.split(scores, ends), strict=True))


def follow(rows: Columns, places: npt.NDArray[np.int64], truth: Sequence[npt.NDArray[np.bool_]]) -> list[Signal]:
    """Return the looks at each account, as many as there are in `truth`."""
    found: list[tuple[npt.NDArray[np.int64], States, int]] = []
    ends: list[int] = []

    def look(states: States, at: npt.NDArray[np.int64]) -> None:
        found.append((at, states[at].copy(), follower.day))

    def end_of_day(_states: States, at: npt.NDArray[np.int64], _day: int) -> None:
        if len(at):
            ends.append(len(found) - 1)

    follower = Follower(look, end_of_day)
    states = sketch.empty(len(truth))
    for day, part in follower.days(rows):
        follower.begin(states, day)
        follower.advance(states, rows.take(part), places[part])
    follower.end_day(states)
    return _signals(found, set(ends), truth)


def _signals(
    found: list[tuple[npt.NDArray[np.int64], States, int]], ends: set[int], truth: Sequence[npt.NDArray[np.bool_]]
) -> list[Signal]:
    sizes = [len(at) for at, _, _ in found]
    at = np.concatenate([at for at, _, _ in found] or [np.zeros(0, np.int64)])
    states = sketch.stacked([part for _, part, _ in found])
    values, requests = features.matrix(states), states["total"].astype(np.int64)
    today = states["today"][:, 0].astype(np.int64)
    days = np.repeat([day for _, _, day in found], sizes).astype(np.int64) - int(START_S // DAY_S)
    ends_day = np.repeat([place in ends for place in range(len(found))], sizes).astype(bool)
    order = np.argsort(at, kind="stable")
    bounds = np.cumsum(np.bincount(at, minlength=len(truth)))[:-1]
    signals = []
    for own, mine in zip(np.split(order, bounds), truth, strict=True):
        harvested = np.append(0, np.cumsum(mine))[np.minimum(requests[own], len(mine))]
        signals.append(Signal(values[own], requests[own], today[own], days[own], ends_day[own], harvested))
    return signals


def _covered(reading: Reading, signal: Signal) -> npt.NDArray[np.bool_]:
    """Return the looks at which a declared use had not ended and was kept to, as `Watch` sees it."""
    plan = reading.plan
    kept_to = np.ones(len(signal.days), bool) if plan.declared_cap is None else signal.today <= plan.declared_cap
    return np.asarray(kept_to & (signal.days < plan.declared_until) & (plan.declared is not None))


def _covered_days(reading: Reading) -> npt.NDArray[np.bool_]:
    """Return the days, shape (28,), on which a declared use had not ended and was kept to."""
    plan = reading.plan
    per_day = np.bincount(reading.days, minlength=DAYS)[:DAYS]
    kept_to = np.ones(DAYS, bool) if plan.declared_cap is None else per_day <= plan.declared_cap
    return np.asarray(kept_to & (np.arange(DAYS) < plan.declared_until) & (plan.declared is not None))


def looks_of(readings: Sequence[Reading], days: npt.NDArray[np.bool_], kept: str) -> Looks:
    """Return the looks of accounts on chosen days of the month, with their truth, for fitting."""
    signals: list[Signal] = [reading.kept[kept] for reading in readings]
    plans = [reading.plan for reading in readings]
    sizes = [len(signal.days) for signal in signals]
    chosen = days[np.concatenate([signal.days for signal in signals])]

    def spread(values: list[object]) -> npt.NDArray[np.generic]:
        return np.asarray(np.repeat(np.array(values), sizes)[chosen])

    attack = spread([plan.is_attack for plan in plans]).astype(bool)
    return Looks(
        values=np.concatenate([signal.values for signal in signals])[chosen],
        account=np.repeat(np.arange(len(plans)), sizes)[chosen],
        group=spread([plan.group for plan in plans]),
        kind=spread([plan.code for plan in plans]).astype(np.str_),
        attack=attack,
        harvests=attack & (np.concatenate([signal.harvested for signal in signals])[chosen] > 0),
        ends_day=np.concatenate([signal.ends_day for signal in signals])[chosen],
        declared=spread([plan.declared is not None for plan in plans]).astype(bool),
    )
