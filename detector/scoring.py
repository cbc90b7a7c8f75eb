"""From evidence to a score of 0 to 1 and a severity.

log-odds = 2 · ln(level) + standing, where `level` is the sequential evidence of the rules as a multiple of its
threshold and `standing` (−0.8 to +0.8) is what peers and isolation add. So they move the point at which an account
scores one half between 0.67 and 1.5 times the threshold, and alone decide nothing. The scale is anchored, not fitted:
0.5 is where the rules' threshold lies, and twice the threshold is 0.8.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from detector.isolation import Isolation
from detector.peers import RobustPeers

Severity = Literal["none", "low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "high")
BOUNDS = (0.25, 0.5, 0.8)  # the scores from which low, medium and high begin
ALERT = BOUNDS[1]
STEEPNESS = 2.0
PEERS_WEIGHT, ISOLATION_WEIGHT = 0.5, 0.3
ORDINARY_Z = 3.0


class Standing(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What peers and isolation add to the log-odds: at most ±0.8."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: Any = None) -> Standing:  # noqa: N803 — scikit-learn's names
        """Learn from a frame of ordinary account windows."""
        self.peers_ = RobustPeers().fit(X)
        self.isolation_ = Isolation(seed=self.seed).fit(X)
        self.n_features_in_ = self.peers_.n_features_in_
        return self

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the shift of the log-odds a row; higher is more abnormal."""
        check_is_fitted(self)
        peers = np.tanh((self.peers_.decision_function(X) - ORDINARY_Z) / ORDINARY_Z)
        isolation = 2.0 * self.isolation_.decision_function(X) - 1.0
        return np.asarray(PEERS_WEIGHT * peers + ISOLATION_WEIGHT * isolation, dtype=np.float64)


def score_of(level: float, standing: float) -> float:
    """Return the score, 0 to 1, of a level of evidence (a multiple of the threshold) and a standing (log-odds)."""
    if level <= 0.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-(STEEPNESS * math.log(level) + standing)))


def severity_of(score: float, lowered: bool = False) -> Severity:
    """Return the severity of a score, one step lower where a declared use covers the account."""
    step = sum(score >= bound for bound in BOUNDS)
    return SEVERITIES[max(1, step - 1) if lowered and step > 1 else step]
