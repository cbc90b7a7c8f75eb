"""The figures of the protocol from scores, labels and weights, with intervals by resampling tenant templates.

Weights make the prevalence: all positives together weigh `prevalence`, all negatives the rest. Every campaign weighs
the same, however many accounts or days it has, so that a campaign of a thousand accounts is not a thousand campaigns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.float64]
LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class Figure:
    """A value with the ends of its 95 % interval; NaN: nothing to measure; infinite: what never came."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        digits = 2 if abs(self.value) < 10 else 0
        value, low, high = (_written(end, digits) for end in (self.value, self.low, self.high))
        return value if np.isnan(self.low) else f"{value} [{low}, {high}]"


def _written(value: float, digits: int) -> str:
    return "never" if np.isinf(value) else f"{value:,.{digits}f}"


class Resampling:
    """Draws tenant templates (benign) and campaigns (attacks) with replacement; `draws` sets of counts by cluster."""

    def __init__(self, clusters: Sequence[str], is_attack: Bools, draws: int, seed: int) -> None:
        names, self.of_row = np.unique(np.asarray(clusters), return_inverse=True)
        attack = np.zeros(len(names), dtype=bool)
        attack[self.of_row[is_attack]] = True
        rng = np.random.default_rng(seed)
        self.counts: list[Counts] = [np.ones(len(names))]
        for _ in range(draws):
            counts = np.zeros(len(names))
            for kind in (attack, ~attack):
                members = np.flatnonzero(kind)
                if len(members):
                    counts += np.bincount(rng.choice(members, len(members)), minlength=len(names))
            self.counts.append(counts)

    def figure(self, measure: Callable[[Floats], float]) -> Figure:
        """Return a measure of the rows' multiplicities, shape (rows,), as it stands and over the draws."""
        values = np.array([measure(counts[self.of_row]) for counts in self.counts])
        return interval(values)


def interval(values: Floats) -> Figure:
    """Make a figure of a value and its resampled ones, the first being the value itself."""
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or len(drawn) < 20:
        return Figure(float(values[0]), float("nan"), float("nan"))
    # A rank, not a mean of two: half of infinity is no number.
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Figure(float(values[0]), float(low), float(high))


class Ranking:
    """Scores in order, so that resampled weights cost no sorting. Ties are one step."""

    def __init__(self, scores: Floats, positive: Bools) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._truth = positive[self._order]
        self._last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)

    def precision_recall(self, weights: Floats, prevalence: float) -> tuple[Floats, Floats]:
        """Return recall and precision at every threshold, the highest first; empty without both kinds."""
        weight = weights[self._order]
        found, raised = np.cumsum(weight * self._truth), np.cumsum(weight * ~self._truth)
        if len(found) == 0 or found[-1] <= 0 or raised[-1] <= 0:
            return np.zeros(0), np.zeros(0)
        recall, false_rate = found[self._last] / found[-1], raised[self._last] / raised[-1]
        flagged = prevalence * recall + (1 - prevalence) * false_rate
        return recall, prevalence * recall / np.maximum(flagged, 1e-300)

    def average_precision(self, weights: Floats, prevalence: float) -> float:
        """Return the area under precision and recall (Davis and Goadrich 2006); NaN without both kinds."""
        recall, precision = self.precision_recall(weights, prevalence)
        return float("nan") if len(recall) == 0 else float(np.sum(np.diff(recall, prepend=0.0) * precision))


def threshold_at(scores: Floats, false_rate: float) -> float:
    """Return the lowest threshold that at most that share of negative scores exceeds; `inf` without scores."""
    if len(scores) == 0:
        return float("inf")
    return float(np.quantile(scores, 1 - false_rate, method="higher"))


def rate_above(scores: Floats, threshold: float, weights: Floats) -> float:
    """Return the weighted share of scores above a threshold; NaN where nothing weighs."""
    total = weights.sum()
    return float((weights * (scores > threshold)).sum() / total) if total > 0 else float("nan")


def roc_auc(scores: Floats, positive: Bools, weights: Floats) -> float:
    """Return the chance that a positive scores above a negative, ties half; NaN without both kinds."""
    order = np.argsort(scores, kind="stable")
    ranked, truth, weight = scores[order], positive[order], weights[order]
    first = np.append(0, np.flatnonzero(np.diff(ranked)) + 1)
    wins, losses = np.add.reduceat(weight * truth, first), np.add.reduceat(weight * ~truth, first)
    total = wins.sum() * losses.sum()
    below = losses.cumsum() - losses
    return float((wins * (below + 0.5 * losses)).sum() / total) if total > 0 else float("nan")


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the weighted median; NaN where nothing weighs."""
    if weights.sum() <= 0:
        return float("nan")
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(values[order][min(place, len(values) - 1)])


def brier_skill(scores: Floats, positive: Bools, weights: Floats, prevalence: float) -> float:
    """Return 1 − Brier score ÷ that of always saying the prevalence (Brier 1950), at that prevalence."""
    share = shares(positive, weights, prevalence)
    error = float((share * (scores - positive) ** 2).sum())
    return 1 - error / (prevalence * (1 - prevalence)) if share.sum() > 0 else float("nan")


def calibration_slope(scores: Floats, positive: Bools, weights: Floats, prevalence: float) -> float:
    """Return the slope of a logistic regression of the truth on the scores' log-odds (Cox 1958), at that prevalence.

    NaN where the scores separate the kinds (nearly) perfectly, since there is no slope then.
    """
    share = shares(positive, weights, prevalence)
    if share.sum() <= 0:
        return float("nan")
    clipped = np.clip(scores, 1e-4, 1 - 1e-4)
    odds = np.log(clipped / (1 - clipped))
    slope, base = 1.0, float(np.log(prevalence / (1 - prevalence)))
    for _ in range(200):
        fitted = 1 / (1 + np.exp(-np.clip(slope * odds + base, -30, 30)))
        curvature = share * fitted * (1 - fitted)
        gradient = np.array([(share * (positive - fitted) * odds).sum(), (share * (positive - fitted)).sum()])
        hessian = np.array([[(curvature * odds**2).sum(), (curvature * odds).sum()],
                            [(curvature * odds).sum(), curvature.sum()]])  # fmt: skip
        step = np.clip(np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient), -1.0, 1.0)
        slope, base = slope + step[0], base + step[1]
        if np.abs(step).max() < 1e-8:
            return float(slope)
    return float("nan")


def shares(positive: Bools, weights: Floats, prevalence: float) -> Floats:
    """Return the rows' shares of the whole where positives are `prevalence` of it; zeros without both kinds."""
    for_positive, for_negative = weights[positive].sum(), weights[~positive].sum()
    if for_positive <= 0 or for_negative <= 0:
        return np.zeros(len(weights))
    shares = np.where(positive, prevalence / for_positive, (1 - prevalence) / for_negative)
    return np.asarray(weights * shares)
