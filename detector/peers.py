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
        self.median_ = X[list(FEATURES)].median()
        self.deviation_ = (X[list(FEATURES)] - self.median_).abs().median()
        cells = X["cell"] if "cell" in X else pd.Series("", index=X.index)
        groups = X[list(FEATURES)].groupby(cells)
        sizes = groups.size()
        weight = sizes / (sizes + self.shrinkage)
        own = groups.median().fillna(self.median_)
        self.cell_median_ = own.mul(weight, axis=0) + np.outer(1 - weight, self.median_)
        self.n_features_in_ = len(FEATURES)
        return self

    def z_scores(self, X: pd.DataFrame) -> pd.DataFrame:  # noqa: N803
        """Return each feature's z, clipped to ±`most`; 0 where the value is missing."""
        check_is_fitted(self)
        centre = self.centre(X)
        scale = 1.4826 * self.deviation_ + np.maximum(FLOOR, 0.1 * self.median_.abs())
        return ((X[list(FEATURES)] - centre) / scale).fillna(0.0).clip(-self.most, self.most)

    def centre(self, X: pd.DataFrame) -> pd.DataFrame:  # noqa: N803
        """Return the peers' median that each row is compared with."""
        check_is_fitted(self)
        cells = X["cell"] if "cell" in X else pd.Series("", index=X.index)
        known = self.cell_median_.reindex(cells)
        known.index = X.index
        return known.fillna(self.median_)

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return one number a row; higher is more abnormal."""
        z = self.z_scores(X)[list(HARVEST_DIRECTION)].to_numpy().clip(min=0.0)
        return np.asarray(np.sort(z, axis=1)[:, -3:].mean(axis=1), dtype=np.float64)
