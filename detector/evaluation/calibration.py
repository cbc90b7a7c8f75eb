"""Whether scores are probabilities: skill, slope and precision at a prevalence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from detector.evaluation.figures import Bools, Figure, Floats, brier_skill, calibration_slope, shares
from detector.evaluation.measuring import PREVALENCES, Table
from detector.evaluation.operating import HIGH, HeldOut

# Finer below, where most accounts are: at a prevalence of 0.5 % a score of a hundredth is already twice the average.
BOUNDS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0 + 1e-9)
Integers = npt.NDArray[np.int64]
Measure = Callable[[Floats, Bools, Floats, float], float]  # scores, truth, weights, prevalence


@dataclass(frozen=True)
class Bin:
    """Accounts with scores between two bounds: their mean score, and the share of harvesters at the prevalence."""

    low: float
    high: float
    mean_score: Figure
    harvesting: Figure
    accounts: int


@dataclass(frozen=True)
class Calibration:
    """How far scores are probabilities at a prevalence of 0.5 %."""

    brier_skill: Figure
    slope: Figure
    precision_at_high: Figure
    bins: tuple[Bin, ...]


def calibration(found: HeldOut, table: Table) -> Calibration:
    """Return how far the highest scores of held-out accounts are probabilities, at a prevalence of 0.5 %."""
    known = ~np.isnan(found.peak)
    rows = np.flatnonzero(known)
    scores, truth, weights = found.peak[rows], table.attack[rows], table.account_weights(known)[rows]
    prevalence = PREVALENCES[0]

    def over(measure: Measure) -> Figure:
        return table.resampling.figure(lambda many: measure(scores, truth, weights * many[rows], prevalence))

    return Calibration(
        over(brier_skill),
        over(calibration_slope),
        over(_precision_at_high),
        tuple(_bin(table, scores, truth, weights, rows, bounds) for bounds in pairwise(BOUNDS)),
    )


def _precision_at_high(scores: Floats, truth: Bools, weights: Floats, prevalence: float) -> float:
    high = scores >= HIGH
    found = prevalence * (weights * (high & truth)).sum() / max(1e-9, (weights * truth).sum())
    false = (1 - prevalence) * (weights * (high & ~truth)).sum() / max(1e-9, (weights * ~truth).sum())
    return float(found / (found + false)) if found + false > 0 else float("nan")


def _bin(
    table: Table, scores: Floats, truth: Bools, weights: Floats, rows: Integers, bounds: tuple[float, float]
) -> Bin:
    low, high = bounds
    here = (scores >= low) & (scores < high)

    def over(values: Floats) -> Figure:
        def mean(many: Floats) -> float:
            share = shares(truth, weights * many[rows], PREVALENCES[0]) * here
            return float((share * values).sum() / share.sum()) if share.sum() > 0 else float("nan")

        return table.resampling.figure(mean)

    return Bin(low, min(high, 1.0), over(scores), over(truth.astype(np.float64)), int(here.sum()))
