"""The baselines of the protocol on the same accounts: request rate, IsolationForest, PRADA, SEAT, and MMD twice.

Each learns from the split's training accounts only, and its threshold is frozen like the detector's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import IsolationForest

from detector.columns import Columns
from detector.evaluation.contenders import Learns, day_ends
from detector.evaluation.learnt import Signal
from detector.evaluation.reading import Floats, Reading, each
from detector.evaluation.simulation import START_S
from detector.evaluation.traces import DAYS
from detector.sketch import DAY_S

COMPARED_WITH = 1000  # earlier requests
NORMALITY_OVER = 300  # distances
LEAST_DISTANCES = 20
FREQUENCIES = 64


def _days(seen: Columns) -> npt.NDArray[np.int64]:
    return np.asarray((seen.time - START_S) // DAY_S, dtype=np.int64)


def _units(seen: Columns) -> tuple[Columns, npt.NDArray[np.float32]]:
    """Return the requests that have an embedding, and these at unit length."""
    known = seen.take(seen.embedding_known)
    vectors = known.embedding.astype(np.float32)
    return known, vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))


class Rival:
    """A baseline: it scores account-days, learns nothing unless it says so, and has no alerts of its own."""

    name = ""
    learns: Learns = "nothing"

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Learn nothing: the threshold is what the protocol freezes."""

    def alerts(self, readings: Sequence[Reading]) -> None:
        """Return None: an alert is the frozen threshold's."""
        return None


class RequestRate(Rival):
    """Requests a day."""

    name = "request rate"

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return the requests of each day."""
        counts = [np.bincount(reading.days, minlength=DAYS)[:DAYS] for reading in readings]
        return np.array(counts, dtype=np.float64).reshape(-1, DAYS)


class IsolationAlone(Rival):
    """IsolationForest (Liu, Ting, Zhou 2008) on the detector's own features of an account's day."""

    name = "IsolationForest"
    learns: Learns = "benign"

    def __init__(self, rows_of: str = "detector") -> None:
        self._rows_of = rows_of
        self._forest = IsolationForest()
        self._medians = np.zeros(0)

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Fit the forest on benign accounts' days."""
        signals: list[Signal] = [reading.kept[self._rows_of] for reading in readings]
        chosen = [signal.values[signal.ends_day & days[signal.days]] for signal in signals]
        rows = np.concatenate(chosen).astype(np.float64)
        self._medians = np.nan_to_num(np.nanmedian(np.where(np.isnan(rows).all(axis=0), 0.0, rows), axis=0))
        self._forest = IsolationForest(n_estimators=100, random_state=0).fit(self._filled(rows))

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return how isolated each day's row is."""
        scores = np.zeros((len(readings), DAYS))
        signals: list[Signal] = [reading.kept[self._rows_of] for reading in readings]
        rows = np.concatenate([signal.values[signal.ends_day] for signal in signals]).astype(np.float64)
        owner = np.repeat(np.arange(len(signals)), [int(signal.ends_day.sum()) for signal in signals])
        days = np.concatenate([signal.days[signal.ends_day] for signal in signals])
        scores[owner, days] = -self._forest.score_samples(self._filled(rows))
        return scores

    def _filled(self, rows: Floats) -> Floats:
        return np.where(np.isnan(rows), self._medians, rows)


class Distances:
    """Keeps each request's cosine distance to the nearest of the account's thousand requests before it."""

    name = "distances"

    def read(
        self, rows: Columns, places: npt.NDArray[np.int64], truth: Sequence[npt.NDArray[np.bool_]]
    ) -> list[tuple[npt.NDArray[np.float16], list[tuple[int, int]]]]:
        """Return the distances, shape (requests with an embedding,), and where the days end among them."""
        return [self._read(own) for own in each(rows, places, len(truth))]

    def _read(self, seen: Columns) -> tuple[npt.NDArray[np.float16], list[tuple[int, int]]]:
        known, vectors = _units(seen)
        distances = np.ones(len(known), dtype=np.float16)
        for begin in range(0, len(known), 500):
            block = vectors[begin : begin + 500]
            first = max(0, begin - COMPARED_WITH)
            cosines = block @ vectors[first : begin + len(block)].T
            later = np.arange(first, begin + len(block))[None, :] >= np.arange(begin, begin + len(block))[:, None]
            cosines[later] = -1.0
            distances[begin : begin + len(block)] = np.clip(1.0 - cosines.max(axis=1), 0.0, 1.0)
        return distances, day_ends(_days(known))


class Prada(Rival):
    """PRADA (Juuti et al. 2019): distances to earlier queries should be normal; 1 − Shapiro and Wilk's W.

    Over the account's last 300 distances at the end of each day, those beyond three deviations left out, as there.
    """

    name = "PRADA"

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return the departure from normality at the end of each day."""
        scores = np.zeros((len(readings), DAYS))
        for row, reading in enumerate(readings):
            kept = reading.kept.get(self.name)
            if kept is None:
                kept = reading.kept[self.name] = _departures(*reading.kept[Distances.name])
            for day, value in kept:
                scores[row, day] = value
        return scores


def _departures(distances: npt.NDArray[np.float16], ends: list[tuple[int, int]]) -> list[tuple[int, float]]:
    found = []
    for day, end in ends:
        recent = distances[max(0, end - NORMALITY_OVER) : end].astype(np.float64)
        kept = recent[np.abs(recent - recent.mean()) <= 3 * recent.std() + 1e-12]
        spread = len(kept) >= LEAST_DISTANCES and np.ptp(kept) > 1e-6
        found.append((day, 1.0 - float(stats.shapiro(kept).statistic) if spread else 0.0))
    return found


class Seat(Rival):
    """SEAT (Zhang et al. 2021): how many of an account's queries have a near-duplicate among its earlier ones.

    What is near is the distance that a tenth of the training accounts' requests stay below.
    """

    name = "SEAT"
    learns: Learns = "benign"

    def __init__(self) -> None:
        self._near = 0.1

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Learn what is near."""
        kept = [reading.kept[Distances.name][0] for reading in readings]
        self._near = float(np.quantile(np.concatenate(kept), 0.1)) if kept else 0.1

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return the number of similar pairs up to the end of each day."""
        scores = np.zeros((len(readings), DAYS))
        for row, reading in enumerate(readings):
            distances, ends = reading.kept[Distances.name]
            pairs = np.append(0, np.cumsum(distances <= self._near))
            for day, end in ends:
                scores[row, day] = pairs[end]
        return scores


class Moments:
    """Keeps each day's sum of random Fourier features (Rahimi and Recht 2007) of the embeddings, shape (days, 128)."""

    name = "moments"

    def __init__(self) -> None:
        self._frequencies = np.random.default_rng(7).normal(size=(128, FREQUENCIES)).astype(np.float32)

    def read(
        self, rows: Columns, places: npt.NDArray[np.int64], truth: Sequence[npt.NDArray[np.bool_]]
    ) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """Return the sums and counts of the 28 days, active ones first: (sums, columns of day and count)."""
        return [self._read(own) for own in each(rows, places, len(truth))]

    def _read(self, seen: Columns) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        known, vectors = _units(seen)
        angles = vectors @ self._frequencies
        features = np.hstack([np.cos(angles), np.sin(angles)]) / np.float32(np.sqrt(FREQUENCIES))
        ends = day_ends(_days(known))
        begins = [0, *(end for _, end in ends[:-1])]
        sums = [features[begin:end].sum(axis=0) for begin, (_, end) in zip(begins, ends, strict=False)]
        counts = [(day, end - begin) for begin, (day, end) in zip(begins, ends, strict=False)]
        return (np.array(sums, dtype=np.float32).reshape(-1, 2 * FREQUENCIES),
                np.array(counts, dtype=np.int64).reshape(-1, 2))  # fmt: skip


class MmdAgainstPool(Rival):
    """MMD (Gretton et al. 2012) of an account so far against the pooled benign accounts.

    n × MMD² over its expectation for n texts of the pool itself, so that it does not grow with n under the null.
    """

    name = "MMD, pool"
    learns: Learns = "benign"

    def __init__(self) -> None:
        self._mean: Floats = np.zeros(2 * FREQUENCIES)

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Learn the pool's mean; each account counts by its root, lest the largest be the pool."""
        total, weight = np.zeros(2 * FREQUENCIES), 0.0
        for reading in readings:
            sums, counts = reading.kept[Moments.name]
            chosen = days[counts[:, 0]]
            requests = counts[chosen, 1].sum()
            if requests:
                total += sums[chosen].sum(axis=0) / np.sqrt(requests)
                weight += np.sqrt(requests)
        self._mean = total / max(weight, 1.0)

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return the statistic at the end of each day."""
        scores = np.zeros((len(readings), DAYS))
        spread = max(1e-9, 1.0 - float(self._mean @ self._mean))
        for row, reading in enumerate(readings):
            sums, counts = reading.kept[Moments.name]
            n = counts[:, 1].cumsum()
            means = sums.cumsum(axis=0) / np.maximum(n, 1)[:, None]
            scores[row, counts[:, 0]] = n * ((means - self._mean) ** 2).sum(axis=1) / spread
        return scores


class MmdAgainstOwnHistory(Rival):
    """MMD of an account's day against its own days before, scaled in the same way; 0 without enough of either."""

    name = "MMD, own history"
    LEAST_TODAY, LEAST_PAST = 5, 15

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return the statistic of each day."""
        scores = np.zeros((len(readings), DAYS))
        for row, reading in enumerate(readings):
            sums, counts = reading.kept[Moments.name]
            today = counts[:, 1]
            past = today.cumsum() - today
            enough = (today >= self.LEAST_TODAY) & (past >= self.LEAST_PAST)
            before = (sums.cumsum(axis=0) - sums) / np.maximum(past, 1)[:, None]
            squared = ((sums / np.maximum(today, 1)[:, None] - before) ** 2).sum(axis=1)
            spread = np.maximum(1e-3, 1.0 - (before**2).sum(axis=1))
            scores[row, counts[:, 0]] = enough * squared * today * past / np.maximum(today + past, 1) / spread
        return scores
