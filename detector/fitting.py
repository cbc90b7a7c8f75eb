"""Fitting the model: from looks at accounts whose truth is known to trees, a calibration and bounds.

Accounts are looked at as often as the service does, so that the trees know young ones too. An ordinary account weighs
as much as another (half of the weight goes by look-alike type), a campaign as much as another, whatever its size. Whole
channels are taken away from copies of some accounts, since an installation may have no texts or no fingerprints.
Calibration and bounds rest on scores of types that the trees had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from detector import features, sequential
from detector.forest import Forest, from_boosters
from detector.scoring import PREVALENCE, Model, evidence

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Looks:
    """Looks at accounts, all arrays of shape (looks,) but `values`, shape (looks, features).

    `harvests`: the account had harvested by then; `attack`: it belongs to a campaign; `ends_day`: the look at the end
    of a day. `account`, `group` and `kind` (A1, B1 …) are numbers or names that tell them apart.
    """

    values: npt.NDArray[np.float32]
    account: npt.NDArray[Any]
    group: npt.NDArray[Any]
    kind: npt.NDArray[np.str_]
    attack: Bools
    harvests: Bools
    ends_day: Bools
    declared: Bools

    def take(self, rows: npt.NDArray[Any]) -> Looks:
        """Return the looks at these places, or where a mask is true."""
        return Looks(**{name: value[rows] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Recipe:
    """How trees are grown."""

    boosters: int = 2
    trees: int = 110
    leaves: int = 6
    rate: float = 0.05
    least_leaf: int = 120
    ridge: float = 50.0
    features: float = 0.2  # share that a split may choose from
    looks: int = 12  # at most so many of an account; they resemble one another
    by_type: float = 0.5  # share of ordinary weight that goes by look-alike type
    blind: Mapping[str, float] | None = None  # share of accounts that are copied without a channel
    folds: int = 3
    seed: int = 0


BINS = 48  # of each feature, by quantiles
BLIND = {"text": 0.2, "content": 0.1, "network": 0.2}
FALSE_ALERTS = 0.5  # alerts per 1,000 benign account-days
PRECISION_OF_HIGH = 0.8


def fit(looks: Looks, recipe: Recipe, card: Mapping[str, Any]) -> tuple[Model, Floats]:
    """Fit trees on all looks, and calibrate on the evidence of types that trees had not seen; return that too.

    The second is calibrated log-odds, shape (looks,).
    """
    unseen = sequential.smoothed(out_of_fold(looks, recipe), looks.account)
    slope, shift = calibrate(looks, unseen)
    ordinary = looks.take(~looks.attack & looks.ends_day)
    medians = features.medians(ordinary.values, np.full(ordinary.values.shape[1], np.nan, np.float32))
    model = Model(grow(looks, recipe), slope, shift, (0.0, 0.0, 0.0), medians, card)
    odds = slope * unseen + shift
    return replace(model, bounds=bounds(looks, odds)), odds


def grow(looks: Looks, recipe: Recipe) -> Forest:
    """Grow the trees."""
    weight = weights(looks, recipe.by_type)
    # Before its first harvesting request an account of a campaign is neither kind.
    known = (~looks.attack | looks.harvests) & _thinned(looks, recipe)
    values, truth, weight = _blinded(looks.take(known), weight[known], recipe)
    values[:, np.isnan(values).all(axis=0)] = 0.0  # never split on: a column of nothing can't be binned
    edges = _edges(values)
    steps = _steps(values, edges)
    worse = [int(name in features.MORE_IS_WORSE) for name in features.NAMES]
    boosters = [
        HistGradientBoostingClassifier(
            max_iter=recipe.trees, max_leaf_nodes=recipe.leaves, learning_rate=recipe.rate,
            min_samples_leaf=recipe.least_leaf, l2_regularization=recipe.ridge, max_features=recipe.features,
            monotonic_cst=worse, early_stopping=False, max_bins=BINS, random_state=recipe.seed + number,
        ).fit(steps, truth, sample_weight=weight)
        for number in range(recipe.boosters)
    ]  # fmt: skip
    return from_boosters(boosters, edges)


def _edges(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return the values of each feature that a split may lie at: its quantiles."""
    chosen = np.linspace(0, 1, BINS + 1)[1:-1]
    found = []
    for column in values.T:
        known = column[~np.isnan(column)]
        found.append(np.unique(np.quantile(known, chosen, method="lower")) if len(known) else np.zeros(0, np.float32))
    return found


def _steps(values: npt.NDArray[np.float32], edges: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Turn values into places among the edges: what scikit-learn would do itself, in a hundred times as long."""
    steps = np.stack([np.searchsorted(own, column) for own, column in zip(edges, values.T, strict=True)], axis=1)
    return np.where(np.isnan(values), np.nan, steps).astype(np.float32)


def out_of_fold(looks: Looks, recipe: Recipe) -> Floats:
    """Return the evidence on each look by trees that had seen neither its attack type nor its group."""
    found = np.zeros(len(looks.attack))
    fold = np.where(looks.attack, _folds(looks.kind, recipe), _folds(looks.group, recipe))
    for number in range(recipe.folds):
        trees = grow(looks.take(fold != number), replace(recipe, boosters=1))
        found[fold == number] = evidence(trees, looks.values[fold == number])
    return found


def _thinned(looks: Looks, recipe: Recipe) -> Bools:
    """Choose at most so many looks of each account, by chance."""
    rng = np.random.default_rng(recipe.seed)
    _, account, count = np.unique(looks.account, return_inverse=True, return_counts=True)
    return np.asarray(rng.random(len(account)) < recipe.looks / count[account])


def _folds(names: npt.NDArray[Any], recipe: Recipe) -> npt.NDArray[np.int64]:
    known, place = np.unique(names, return_inverse=True)
    return np.asarray((np.random.default_rng(recipe.seed).permutation(len(known)) % recipe.folds)[place])


def weights(looks: Looks, by_type: float) -> Floats:
    """Weigh looks: campaigns alike, ordinary accounts alike (a share of it: types alike), half for either side."""
    _, account, looked = np.unique(looks.account, return_inverse=True, return_counts=True)
    weight = 1.0 / looked[account]
    _, group = np.unique(looks.group, return_inverse=True)
    shared = np.bincount(group, weights=weight)[group]
    weight = np.where(looks.attack, weight / shared, weight)
    _, kind = np.unique(looks.kind, return_inverse=True)
    typed = weight / np.bincount(kind, weights=weight)[kind]
    for side in (looks.attack, ~looks.attack):
        for part in (weight, typed):
            part[side] /= max(part[side].sum(), 1e-9)
    return np.asarray(((1 - by_type) * weight + by_type * typed) * len(weight) / 2)


def calibrate(looks: Looks, odds: Floats) -> tuple[float, float]:
    """Return slope and shift that make log-odds those of a world of `PREVALENCE` (Platt 1999)."""
    rows = np.flatnonzero(looks.ends_day & (~looks.attack | looks.harvests) & ~looks.declared)
    chosen = looks.take(rows)
    weight, truth = weights(chosen, 0.0), chosen.attack
    share = np.where(truth, PREVALENCE / weight[truth].sum(), (1 - PREVALENCE) / weight[~truth].sum())
    fitted = LogisticRegression(C=1e6).fit(odds[rows, None], truth, sample_weight=weight * share * len(rows))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def bounds(looks: Looks, odds: Floats) -> tuple[float, float, float]:
    """Return the scores of low, medium and high: a tenth, all and none of what false alerts are allowed."""
    ordinary = ~looks.attack & ~looks.declared
    days = int((ordinary & looks.ends_day).sum())
    accounts, place = np.unique(looks.account[ordinary], return_inverse=True)
    peaks = np.full(len(accounts), -np.inf)
    np.maximum.at(peaks, place, odds[ordinary])
    ranked = np.sort(peaks)[::-1]

    def allowing(rate: float) -> float:
        count = min(len(ranked) - 1, max(0, int(rate * days / 1000)))
        return float(1.0 / (1.0 + np.exp(-ranked[count])) + 1e-6)

    medium = allowing(FALSE_ALERTS)
    high = max(medium + 1e-6, PRECISION_OF_HIGH)
    return allowing(6 * FALSE_ALERTS), medium, high


def _blinded(looks: Looks, weight: Floats, recipe: Recipe) -> tuple[npt.NDArray[np.float32], Bools, Floats]:
    values, truth, parts = [looks.values], [looks.attack], [weight]
    rng = np.random.default_rng(recipe.seed)
    accounts, place = np.unique(looks.account, return_inverse=True)
    for channel, share in (BLIND if recipe.blind is None else recipe.blind).items():
        chosen = (rng.random(len(accounts)) < share)[place]
        values.append(features.masked(looks.values[chosen], channel))
        truth.append(looks.attack[chosen])
        parts.append(weight[chosen])
    return np.concatenate(values), np.concatenate(truth), np.concatenate(parts)
