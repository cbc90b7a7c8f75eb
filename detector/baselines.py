"""What people try first: a threshold on requests, or on tokens; measured beside the detector on the same frames."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from detector.columns import Columns


class _Threshold(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    column: ClassVar[str]

    def __init__(self, quantile: float = 0.99) -> None:
        self.quantile = quantile

    def fit(self, X: pd.DataFrame, y: Any = None) -> _Threshold:  # noqa: N803 — scikit-learn's names
        """Learn the threshold: a quantile of what windows usually hold."""
        self.threshold_ = float(X[self.column].quantile(self.quantile))
        self.n_features_in_ = 1
        return self

    def decision_function(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the volume as a multiple of the threshold; higher is more abnormal, above 1 is flagged."""
        check_is_fitted(self)
        return np.asarray(X[self.column].fillna(0.0) / max(self.threshold_, 1.0), dtype=np.float64)

    def predict(self, X: pd.DataFrame) -> npt.NDArray[np.int64]:  # noqa: N803
        """Return 1 for rows above the threshold, else 0."""
        return np.asarray(self.decision_function(X) > 1.0, dtype=np.int64)

    def also_caught(self, X: pd.DataFrame, account: str) -> list[str]:  # noqa: N803
        """Return the other accounts that any threshold low enough to catch `account` flags too, largest first."""
        volume = X.set_index("account")[self.column]
        others = volume[(volume >= volume[account]) & (volume.index != account)]
        return [str(name) for name in others.sort_values(ascending=False).index]


class RequestRateThreshold(_Threshold):
    """Flags windows with more requests than usual."""

    column = "requests"


class TokenThreshold(_Threshold):
    """Flags windows with more tokens, in and out, than usual."""

    column = "tokens"


def compare(rows: Columns, catch: str | None = None) -> list[dict[str, Any]]:
    """Run both thresholds on each account's last day, the quantiles learnt from all days before it.

    One object per baseline: `threshold`, `flagged` (accounts) and, where `catch` names an account, `also_caught`:
    whom any threshold low enough for that one flags too.
    """
    seen = pd.DataFrame(
        {
            "account": np.array(rows.names, dtype=object)[rows.account],
            "day": (rows.time // 86400).astype(np.int64),
            "requests": 1.0,
            "tokens": np.nan_to_num(rows.input).astype(float) + np.nan_to_num(rows.output),
        }
    )
    table = seen.groupby(["account", "day"], as_index=False).sum()
    last = table["day"] == table.groupby("account")["day"].transform("max")
    return [_result(kind(), table[~last], table[last], catch) for kind in (RequestRateThreshold, TokenThreshold)]


def _result(baseline: _Threshold, past: pd.DataFrame, last: pd.DataFrame, catch: str | None) -> dict[str, Any]:
    baseline.fit(past if len(past) else last)
    flagged = last[baseline.predict(last) == 1]["account"]
    found = {"baseline": type(baseline).__name__, "threshold": baseline.threshold_, "flagged": sorted(flagged)}
    return found if catch is None else {**found, "also_caught": baseline.also_caught(last, catch)}
