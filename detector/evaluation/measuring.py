"""Every contender through every split: what is learnt, which thresholds are frozen, what the judged accounts show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.evaluation.contenders import Contender
from detector.evaluation.figures import (
    Bools,
    Figure,
    Floats,
    Ranking,
    Resampling,
    interval,
    rate_above,
    threshold_at,
)
from detector.evaluation.reading import Reading
from detector.evaluation.splits import Fold, Split
from detector.evaluation.traces import DAYS

PREVALENCES = (0.005, 0.001)
FALSE_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class Judged:
    """What a contender says in one fold. Scores of shape (accounts, 28), NaN where it has no say; thresholds frozen."""

    fold: Fold
    scores: npt.NDArray[np.floating]
    thresholds: dict[float, float]  # by the false-positive rate they are frozen at
    alerts: npt.NDArray[np.int64] | None  # requests that had passed at each account's first alert, -1: none

    @property
    def account_scores(self) -> Floats:
        """The highest score of each account, NaN for those it has no say about."""
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores.astype(np.float64)).max(axis=1)
        return np.asarray(np.where(np.isfinite(filled), filled, np.nan))


@dataclass(frozen=True)
class SplitFigures:
    """A contender's figures in a split, means over its folds; `by_fold` has the account PR-AUC at 0.5 % of each."""

    split: str
    contender: str
    pr_auc: dict[float, Figure]
    detected: dict[float, Figure]  # account-days, by the false-positive rate that the threshold was frozen at
    false_rate: dict[float, Figure]  # what that threshold really flags among the judged benign account-days
    by_fold: dict[str, Figure]
    detected_by_fold: dict[str, dict[float, Figure]]
    false_by_fold: dict[str, dict[float, Figure]]


class Table:
    """The accounts as arrays, all of shape (accounts,) or (accounts, 28)."""

    def __init__(self, readings: Sequence[Reading], draws: int, seed: int) -> None:
        self.readings = list(readings)
        self.plans = [reading.plan for reading in readings]
        self.attack = np.array([plan.is_attack for plan in self.plans])
        self.code = np.array([plan.code for plan in self.plans])
        self.group = np.array([plan.group for plan in self.plans])
        self.language = np.array([plan.corpus.language for plan in self.plans])
        self.requests = np.array([len(reading.times) for reading in readings])
        self.judged: Bools = np.array([reading.judged() for reading in readings]).reshape(-1, DAYS)
        self.harvested = np.array([reading.harvested() for reading in readings]).reshape(-1, DAYS)
        # A day on which an account of a campaign did not harvest is neither kind.
        self.positive_days = self.judged & (self.harvested > 0)
        self.negative_days = self.judged & ~self.attack[:, None]
        self.resampling = Resampling([plan.template for plan in self.plans], self.attack, draws, seed)

    def account_weights(self, chosen: Bools) -> Floats:
        """Weigh chosen accounts: a benign one 1, those of a campaign 1 together; 0 for others."""
        return _shared(self.group, chosen, np.ones(len(chosen)), self.attack)

    def day_weights(self, days: Bools) -> Floats:
        """Weigh the accounts' chosen days: a benign day 1, those of a campaign 1 together; shape (accounts,), a day."""
        return _shared(self.group, np.asarray(days.any(axis=1)), days.sum(axis=1), self.attack)


def _shared(group: np.ndarray, chosen: Bools, sizes: np.ndarray, attack: Bools) -> Floats:
    _, place = np.unique(group, return_inverse=True)
    totals = np.bincount(place, weights=np.where(chosen, sizes, 0))
    shared = np.divide(1.0, totals[place], out=np.zeros(len(group)), where=totals[place] > 0)
    return np.where(chosen, np.where(attack, shared, 1.0), 0.0)


def judge(contender: Contender, split: Split, table: Table, cache: dict[object, Judged]) -> list[Judged]:
    """Run a contender through a split; folds that it learns the same from share one fit by way of `cache`."""
    return [_judge(contender, fold, table, cache) for fold in split.folds]


def _judge(contender: Contender, fold: Fold, table: Table, cache: dict[object, Judged]) -> Judged:
    benign = fold.learnt & ~table.attack
    learnt = {"nothing": np.zeros_like(benign), "benign": benign}.get(contender.learns, fold.learnt)
    key = (contender.name, learnt.tobytes(), benign.tobytes(), fold.learnt_days.tobytes())
    known = cache.get(key)
    if known is None:
        contender.fit([table.readings[row] for row in np.flatnonzero(learnt)], fold.learnt_days)
        scores = np.where(table.judged, contender.scores(table.readings), np.nan).astype(np.float32)
        ordinary = scores[benign][:, fold.learnt_days]
        ordinary = ordinary[~np.isnan(ordinary)]
        thresholds = {rate: threshold_at(ordinary, rate) for rate in FALSE_RATES}
        known = cache[key] = Judged(fold, scores, thresholds, contender.alerts(table.readings))
    scores = np.where(fold.judged[:, None] & fold.judged_days[None, :], known.scores, np.nan)
    return Judged(fold, scores, known.thresholds, known.alerts)


def figures_of(contender: Contender, split: Split, judged: Sequence[Judged], table: Table) -> SplitFigures:
    """Return a contender's figures in a split."""
    by_fold = {one.fold.name: _precision(one, table, PREVALENCES[0]) for one in judged}
    detected = {rate: [_days(one, table, table.positive_days, rate) for one in judged] for rate in FALSE_RATES}
    false = {rate: [_days(one, table, table.negative_days, rate) for one in judged] for rate in FALSE_RATES}
    names = [one.fold.name for one in judged]
    return SplitFigures(
        split.name,
        contender.name,
        {PREVALENCES[0]: _mean(list(by_fold.values()))}
        | {other: _mean([_precision(one, table, other) for one in judged]) for other in PREVALENCES[1:]},
        {rate: _mean(values) for rate, values in detected.items()},
        {rate: _mean(values) for rate, values in false.items()},
        {name: interval(values) for name, values in by_fold.items()},
        {name: {rate: interval(detected[rate][place]) for rate in FALSE_RATES} for place, name in enumerate(names)},
        {name: {rate: interval(false[rate][place]) for rate in FALSE_RATES} for place, name in enumerate(names)},
    )


def _precision(judged: Judged, table: Table, prevalence: float) -> Floats:
    scores = judged.account_scores
    chosen = ~np.isnan(scores)
    # Accounts of a campaign that did not harvest on the judged days are neither kind.
    chosen &= ~table.attack | ((table.harvested > 0) & judged.fold.judged_days[None, :]).any(axis=1)
    weights = table.account_weights(chosen)
    rows = np.flatnonzero(chosen)
    ranking = Ranking(scores[rows], table.attack[rows])
    return _resampled(table, lambda many: ranking.average_precision((weights * many)[rows], prevalence))


def _days(judged: Judged, table: Table, days: Bools, rate: float) -> Floats:
    chosen = days & ~np.isnan(judged.scores)
    weights = table.day_weights(chosen)
    above = np.where(chosen, judged.scores > judged.thresholds[rate], False).sum(axis=1)
    count = chosen.sum(axis=1)

    def measure(many: Floats) -> float:
        total = (weights * count * many).sum()
        return float((weights * above * many).sum() / total) if total > 0 else float("nan")

    return _resampled(table, measure)


def _resampled(table: Table, measure: Callable[[Floats], float]) -> Floats:
    resampling = table.resampling
    return np.array([measure(counts[resampling.of_row]) for counts in resampling.counts])


def _mean(folds: Sequence[Floats]) -> Figure:
    """Average folds draw by draw, leaving out those that a draw has nothing of."""
    values = np.array(folds)
    known = ~np.isnan(values)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return interval(np.divide(sums, known.sum(axis=0), out=np.full(values.shape[1], np.nan), where=known.any(axis=0)))


def account_rate(table: Table, chosen: Bools, flagged: Bools) -> Figure:
    """Return the share of chosen accounts that are flagged, every campaign weighing the same."""
    weights = table.account_weights(chosen)
    return table.resampling.figure(lambda many: rate_above(flagged.astype(np.float64), 0.5, weights * many))
