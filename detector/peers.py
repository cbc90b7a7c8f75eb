"""How far an account stands out from its peers: robust z-scores by endpoint and model, shrunk towards the whole.

z = (value − median) / (1.4826 × MAD + floor) (Iglewicz and Hoaglin 1993); a cell of n accounts weighs n / (n + 20).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from detector.features import FEATURES, HARVEST_DIRECTION

FLOOR = 0.05  # a spread below five points of a share is not a spread


class RobustPeers(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Mean of the three greatest one-sided z-scores among the features that grow with harvesting.

    `shrinkage`: how many accounts a cell needs before its own median counts half.
    """

    def __init__(self, shrinkage: float = 20.0, most: float = 10.0) -> None:
        self.shrinkage = shrinkage
        self.most = most

    def fit(self, X: pd.DataFrame, y: Any = None) -> RobustPeers:  # noqa: N803 — scikit-learn's names
        """Learn medians and spreads from frames of `FEATURES`, by `cell` where the frame has that column."""
        values = X[list(FEATURES)].to_numpy(dtype=np.float64)
        self.median_ = _median(values, np.zeros(len(FEATURES)))
        self.deviation_ = _median(np.abs(values - self.median_), np.zeros(len(FEATURES)))
        self.cell_median_ = {cell: self._shrunk(values[rows]) for cell, rows in _rows_of(X).items()}
        self.n_features_in_ = len(FEATURES)
        return self

    def z_scores(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return each feature's z in the order of `FEATURES`, clipped to ±`most`; 0 where the value is missing."""
        scale = 1.4826 * self.deviation_ + np.maximum(FLOOR, 0.1 * np.abs(self.median_))
        z = (X[list(FEATURES)].to_numpy(dtype=np.float64) - self.centre(X)) / scale
        return np.asarray(np.clip(np.nan_to_num(z), -self.most, self.most))

    def centre(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the peers' medians that each row is compared with, in the order of `FEATURES`."""
        check_is_fitted(self)
        centre = np.tile(self.median_, (len(X), 1))
        for cell, rows in _rows_of(X).items():
            centre[rows] = self.cell_median_.get(cell, self.median_)
        return centre

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return one number a row; higher is more abnormal."""
        check_is_fitted(self)
        z = self.z_scores(X)[:, _DIRECTED].clip(min=0.0)
        return np.asarray(np.sort(z, axis=1)[:, -3:].mean(axis=1), dtype=np.float64)

    def _shrunk(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        weight = len(values) / (len(values) + self.shrinkage)
        return np.asarray(weight * _median(values, self.median_) + (1 - weight) * self.median_)


_DIRECTED = [FEATURES.index(name) for name in HARVEST_DIRECTION]


def _median(values: npt.NDArray[np.float64], otherwise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = ~np.isnan(values).all(axis=0)
    median = otherwise.copy()
    median[known] = np.nanmedian(values[:, known], axis=0)
    return median


def _rows_of(X: pd.DataFrame) -> dict[str, npt.NDArray[np.intp]]:  # noqa: N803
    cells = X["cell"].to_numpy() if "cell" in X else np.full(len(X), "")
    return {str(cell): np.flatnonzero(cells == cell) for cell in pd.unique(cells)}
