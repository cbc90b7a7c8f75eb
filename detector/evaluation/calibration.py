"""Whether scores are probabilities: skill, slope and precision at a prevalence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.evaluation.figures import Bools, Figure, Floats, brier_skill, calibration_slope
from detector.evaluation.measuring import PREVALENCES, Table
from detector.evaluation.operating import HIGH, HeldOut

Measure = Callable[[Floats, Bools, Floats, float], float]  # scores, truth, weights, prevalence


@dataclass(frozen=True)
class Calibration:
    """How far scores are probabilities at a prevalence of 0.5 %."""

    brier_skill: Figure
    slope: Figure
    precision_at_high: Figure
    bins: tuple[tuple[float, float, float], ...]  # mean score, share of campaigns at the prevalence, weight


def calibration(found: HeldOut, table: Table) -> Calibration:
    """Return how far the highest scores of held-out accounts are probabilities, at a prevalence of 0.5 %."""
    known = ~np.isnan(found.peak)
    rows = np.flatnonzero(known)
    scores, truth, weights = found.peak[rows], table.attack[rows], table.account_weights(known)[rows]
    prevalence = PREVALENCES[0]

    def over(measure: Measure) -> Figure:
        return table.resampling.figure(lambda many: measure(scores, truth, weights * many[rows], prevalence))

    return Calibration(
        over(brier_skill), over(calibration_slope), over(_precision_at_high), _bins(scores, truth, weights, prevalence)
    )


def _precision_at_high(scores: Floats, truth: Bools, weights: Floats, prevalence: float) -> float:
    high = scores >= HIGH
    found = prevalence * (weights * (high & truth)).sum() / max(1e-9, (weights * truth).sum())
    false = (1 - prevalence) * (weights * (high & ~truth)).sum() / max(1e-9, (weights * ~truth).sum())
    return float(found / (found + false)) if found + false > 0 else float("nan")


def _bins(scores: Floats, truth: Bools, weights: Floats, prevalence: float) -> tuple[tuple[float, float, float], ...]:
    positive = truth.astype(bool)
    share = np.where(
        positive,
        prevalence / max(1e-9, weights[positive].sum()),
        (1 - prevalence) / max(1e-9, weights[~positive].sum()),
    )
    share = share * weights
    found = []
    for low in np.arange(0.0, 1.0, 0.1):
        here = (scores >= low) & (scores < low + 0.1 + 1e-9)
        if here.any():
            weight = float(share[here].sum())
            mean = float((share * scores)[here].sum() / weight)
            found.append((mean, float(share[here & truth].sum() / weight), weight))
    return tuple(found)
