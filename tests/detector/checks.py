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


def ordinary_windows(count: int = 80, seed: int = 7) -> pd.DataFrame:
    """Make windows of ordinary accounts: volumes in the hundreds."""
    requests = np.random.default_rng(seed).uniform(50, 150, count)
    names = [f"account-{number}" for number in range(count)]
    return pd.DataFrame({"account": names, "requests": requests, "tokens": requests * 100})


def extreme_window() -> pd.DataFrame:
    """Make one window far outside the ordinary ones."""
    frame = ordinary_windows(1)
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
