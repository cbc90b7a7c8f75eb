"""One conformance suite for every estimator of the detector, in scikit-learn's manner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

COLUMNS = ("account", "cell", "requests", "tokens")


def ordinary_windows(count: int = 80, seed: int = 7) -> pd.DataFrame:
    """Make windows of ordinary accounts: every feature around one half of its range, volumes in the hundreds."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(0.3, 0.05, (count, len(COLUMNS))), columns=list(COLUMNS))
    frame["account"] = [f"account-{number}" for number in range(count)]
    frame["cell"] = "chat.completions teacher"
    frame["requests"] = rng.uniform(50, 150, count)
    frame["tokens"] = frame["requests"] * 100
    return frame


def extreme_window() -> pd.DataFrame:
    """Make one window far outside the ordinary ones in everything."""
    frame = ordinary_windows(1)
    numbers = [name for name in COLUMNS if name not in ("account", "cell")]
    frame[numbers] = 5.0
    frame[["requests", "tokens"]] = [[10_000.0, 5_000_000.0]]
    return frame


@dataclass(frozen=True)
class Sample:
    """What an estimator is checked on: frames to learn from and to score, what lies outside, and truth, if it asks."""

    ordinary: pd.DataFrame
    extreme: pd.DataFrame
    truth: npt.NDArray[np.bool_] | None = None

    def fit(self, estimator: Any) -> Any:
        """Fit an estimator, with the truth where it learns from that."""
        return estimator.fit(self.ordinary) if self.truth is None else estimator.fit(self.ordinary, self.truth)


def check_detector(estimator: Any, sample: Sample | None = None) -> None:
    """Check that an estimator stores, learns and scores as every detector here must.

    `__init__` stores, `fit` learns and returns itself, learned state ends in `_`, higher is more abnormal, the input is
    left alone, missing values are borne, and the same data give the same scores.
    """
    _check_parameters(estimator)
    sample = sample or Sample(ordinary_windows(), extreme_window())
    ordinary = sample.ordinary
    with pytest.raises(NotFittedError):
        estimator.decision_function(ordinary)
    before = ordinary.copy(deep=True)
    assert sample.fit(estimator) is estimator
    pd.testing.assert_frame_equal(ordinary, before)
    learned = set(vars(estimator)) - set(estimator.get_params())
    assert learned
    assert all(name.endswith("_") for name in learned)
    _check_scores(estimator, sample)


def _check_parameters(estimator: Any) -> None:
    assert set(vars(estimator)) == set(estimator.get_params())
    assert clone(estimator).get_params() == estimator.get_params()


def _check_scores(estimator: Any, sample: Sample) -> None:
    ordinary = sample.ordinary
    scores = estimator.decision_function(ordinary)
    assert scores.shape == (len(ordinary),)
    assert np.isfinite(scores).all()
    assert estimator.decision_function(sample.extreme)[0] > np.median(scores)
    backwards = estimator.decision_function(ordinary.iloc[::-1])[::-1]
    np.testing.assert_allclose(backwards, scores)
    again = sample.fit(clone(estimator)).decision_function(ordinary)
    np.testing.assert_allclose(again, scores)
    numbers = [name for name in ordinary.columns if name not in ("account", "cell")]
    blind = ordinary.assign(**dict.fromkeys(numbers, np.nan))
    assert np.isfinite(estimator.decision_function(blind)).all()
