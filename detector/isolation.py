"""Isolation of account windows: how few random cuts separate one from the others (Liu, Ting, Zhou 2008)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.utils.validation import check_is_fitted

from detector.features import FEATURES


class Isolation(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """IsolationForest on `FEATURES`, missing values at the median; its score is the share of rows less isolated."""

    def __init__(self, trees: int = 40, seed: int = 0) -> None:
        self.trees = trees
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: Any = None) -> Isolation:  # noqa: N803 — scikit-learn's names
        """Learn from a frame of `FEATURES`."""
        self.median_ = X[list(FEATURES)].median().fillna(0.0).to_numpy()
        self.forest_ = IsolationForest(n_estimators=self.trees, random_state=self.seed).fit(self._matrix(X))
        self.fitted_scores_ = np.sort(-self.forest_.score_samples(self._matrix(X)))
        self.n_features_in_ = len(FEATURES)
        return self

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return 0 to 1 a row; higher is more abnormal."""
        check_is_fitted(self)
        scores = -self.forest_.score_samples(self._matrix(X))
        return np.asarray(np.searchsorted(self.fitted_scores_, scores, side="left") / len(self.fitted_scores_))

    def _matrix(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        values = X[list(FEATURES)].to_numpy(dtype=np.float64)
        filled = np.where(np.isnan(values), self.median_, values)
        # Lengths are compared by ratio; a huge answer must not buy isolation by its size alone.
        long = [FEATURES.index(name) for name in ("leaked_per_request", "output_per_request")]
        filled[:, long] = np.log1p(filled[:, long])
        return np.asarray(filled)
