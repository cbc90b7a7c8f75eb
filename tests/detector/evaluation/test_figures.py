"""The figures are right where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from detector.evaluation.figures import (
    Ranking,
    Resampling,
    brier_skill,
    calibration_slope,
    roc_auc,
    threshold_at,
    weighted_median,
)


def _scored(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.random(count) < 0.3
    return np.round(rng.normal(truth * 1.0, 1.0), 1), truth  # rounded, so that there are ties


def test_average_precision_and_auc_are_scikit_learns_with_prevalence_as_a_weight() -> None:
    """Weights that make a prevalence of 0.5 % give what scikit-learn gives with sample weights."""
    scores, truth = _scored()
    prevalence = 0.005
    weights = np.where(truth, prevalence / truth.sum(), (1 - prevalence) / (~truth).sum())
    ours = Ranking(scores, truth).average_precision(np.ones(len(scores)), prevalence)
    assert ours == pytest.approx(average_precision_score(truth, scores, sample_weight=weights))
    assert roc_auc(scores, truth, weights) == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights))


def test_one_kind_alone_has_no_figure() -> None:
    """Without both kinds there is nothing to measure, and no exception either."""
    scores = np.arange(5.0)
    assert np.isnan(Ranking(scores, np.ones(5, bool)).average_precision(np.ones(5), 0.005))
    assert np.isnan(roc_auc(scores, np.zeros(5, bool), np.ones(5)))


def test_a_frozen_threshold_flags_at_most_its_rate() -> None:
    """Of the scores it was frozen on, at most one in a hundred lies above, ties or not."""
    scores = np.repeat(np.arange(100.0), 10)
    assert (scores > threshold_at(scores, 0.01)).mean() <= 0.01
    assert threshold_at(np.zeros(0), 0.01) == float("inf")


def test_probabilities_that_are_right_have_slope_one_and_skill() -> None:
    """Scores drawn as probabilities of what happens are calibrated; the constant prevalence has no skill."""
    rng = np.random.default_rng(4)
    scores = rng.beta(0.5, 2.0, 20_000)
    truth = rng.random(20_000) < scores
    prevalence = float(truth.mean())
    weights = np.ones(20_000)
    assert calibration_slope(scores, truth, weights, prevalence) == pytest.approx(1.0, abs=0.05)
    assert brier_skill(scores, truth, weights, prevalence) > 0.2
    assert brier_skill(np.full(20_000, prevalence), truth, weights, prevalence) == pytest.approx(0.0, abs=1e-6)


def test_intervals_come_from_templates_not_rows() -> None:
    """A hundred copies of one template's rows do not make its interval a hundred times narrower."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=12)
    attack = np.zeros(12, dtype=bool)
    names = [f"t{number}" for number in range(12)]

    def width(copies: int) -> float:
        rows = np.repeat(values, copies)
        resampling = Resampling(np.repeat(names, copies).tolist(), np.repeat(attack, copies), 300, 0)
        figure = resampling.figure(lambda many: float((rows * many).sum() / many.sum()))
        return figure.high - figure.low

    assert width(100) == pytest.approx(width(1))


def test_weighted_median_follows_the_weights() -> None:
    """The value at which half of the weight lies below."""
    assert weighted_median(np.array([1.0, 2.0, 9.0]), np.array([1.0, 1.0, 5.0])) == 9.0
    assert np.isnan(weighted_median(np.array([1.0]), np.array([0.0])))
