"""How likely it is that a linked set harvests: boosted trees on what the set looks like, calibrated.

Ordinary companies, classes and applications behind several keys are linked as well as campaigns are; what they ask
for, and what comes back, tells them apart.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from detector import forest
from detector.links.channels import Floats
from detector.links.describing import COLUMNS, MORE_IS_WORSE

PREVALENCE = 0.02  # of campaigns among linked sets: few accounts harvest, but those who do are linked more often
FOLDS = 4
FALSE_SETS = 2  # ordinary sets above the bound, in all months that are learned from
SHIPPED = Path(__file__).with_name("sets.npz")
Truth = npt.NDArray[np.bool_]


class SetScorer(BaseEstimator):  # type: ignore[misc]
    """Scores linked sets.

    Learned: `forest_`, the calibration `slope_` and `shift_` of its log-odds, and `bound_`, the log-odds from which a
    set gives cause for an alert: `FALSE_SETS` ordinary ones reached it with trees that had not seen them.
    `unseen_excess_`: what such trees say of each set that was learned from, as `excess` does.
    """

    def __init__(
        self, trees: int = 60, leaves: int = 6, rate: float = 0.1, least_leaf: int = 20, boosters: int = 3
    ) -> None:
        self.trees, self.leaves, self.rate, self.least_leaf, self.boosters = trees, leaves, rate, least_leaf, boosters

    def fit(
        self,
        frame: pd.DataFrame,
        truth: Truth,
        weight: Floats | None = None,
        groups: npt.NDArray[np.str_] | None = None,
    ) -> Self:
        """Learn from sets (`describing.COLUMNS`) of which `truth` says which harvest.

        Sets of one of `groups` (a campaign's strategy, a company) fall into one fold of the calibration.
        """
        values = frame[list(COLUMNS)].to_numpy(np.float32)
        given = np.ones(len(values)) if weight is None else weight
        balanced = np.where(truth, given / given[truth].sum(), given / given[~truth].sum()) * len(values) / 2
        names = np.arange(len(values)).astype(np.str_) if groups is None else groups
        unseen = self._out_of_fold(values, truth, balanced, names)
        prior = np.where(truth, PREVALENCE, 1 - PREVALENCE) * balanced
        platt = LogisticRegression(C=1e3).fit(unseen[:, None], truth, sample_weight=prior)
        self.slope_, self.shift_ = float(platt.coef_[0, 0]), float(platt.intercept_[0])
        self.bound_ = _bound(self.slope_ * unseen + self.shift_, truth, names)
        self.unseen_excess_ = self.slope_ * unseen + self.shift_ - self.bound_
        self.forest_ = forest.from_boosters(
            [self._grown(values, truth, balanced, seed) for seed in range(self.boosters)]
        )
        return self

    def decision_function(self, frame: pd.DataFrame) -> Floats:
        """Return calibrated log-odds, shape (sets,)."""
        check_is_fitted(self, "forest_")
        values = frame[list(COLUMNS)].to_numpy(np.float32)
        return np.asarray(self.slope_ * self.forest_.log_odds(values) + self.shift_)

    def excess(self, frame: pd.DataFrame) -> Floats:
        """Return by how much each set's log-odds exceed those of an alert, shape (sets,)."""
        return np.asarray(self.decision_function(frame) - self.bound_)

    def to_bytes(self) -> bytes:
        """Return what was learned as an .npz file of plain arrays."""
        check_is_fitted(self, "forest_")
        file = io.BytesIO()
        arrays: dict[str, Any] = self.forest_.arrays("trees_")
        numbers = np.array([self.slope_, self.shift_, self.bound_])
        np.savez_compressed(file, names=np.array(COLUMNS), numbers=numbers, **arrays)
        return file.getvalue()

    def _grown(self, values: npt.NDArray[np.float32], truth: Truth, weight: Floats, seed: int) -> object:
        known = values.copy()
        known[:, np.isnan(known).all(axis=0)] = 0.0  # a column of nothing can't be binned
        return HistGradientBoostingClassifier(
            max_iter=self.trees, max_leaf_nodes=self.leaves, learning_rate=self.rate, min_samples_leaf=self.least_leaf,
            l2_regularization=10.0, max_features=0.3, early_stopping=False, max_bins=32, random_state=seed,
            monotonic_cst=[int(name in MORE_IS_WORSE) for name in COLUMNS],
        ).fit(known, truth, sample_weight=weight)  # fmt: skip

    def _out_of_fold(
        self, values: npt.NDArray[np.float32], truth: Truth, weight: Floats, groups: npt.NDArray[np.str_]
    ) -> Floats:
        known, place = np.unique(groups, return_inverse=True)
        fold = (np.random.default_rng(0).permutation(len(known)) % FOLDS)[place]
        found = np.zeros(len(values))
        for number in range(FOLDS):
            inside, outside = fold == number, fold != number
            if inside.any() and len(np.unique(truth[outside])) == 2:
                grown = self._grown(values[outside], truth[outside], weight[outside], 0)
                found[inside] = forest.from_boosters([grown]).log_odds(values[inside])
        return found


def _bound(odds: Floats, truth: Truth, groups: npt.NDArray[np.str_]) -> float:
    # A set that comes back day after day is one false set.
    names, place = np.unique(groups[~truth], return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, place, odds[~truth])
    ranked = np.sort(highest)[::-1]
    return float(ranked[min(FALSE_SETS, len(ranked) - 1)] + 1e-3)


def read(raw: bytes) -> SetScorer:
    """Return the scorer that `SetScorer.to_bytes` wrote; raises `ValueError` where it learned from other columns."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        if tuple(found["names"].tolist()) != COLUMNS:
            raise ValueError(f"{SHIPPED.name} was fitted on other columns: `python -m benchmarks.linking` fits it anew")
        scorer = SetScorer()
        scorer.slope_, scorer.shift_, scorer.bound_ = found["numbers"].tolist()
        scorer.forest_ = forest.from_arrays(found, "trees_")
        return scorer


@functools.cache
def shipped() -> SetScorer:
    """Return the scorer that comes with the package."""
    return read(SHIPPED.read_bytes())
