"""A lower bound of a mean over clusters that does not take their rows for independent: the studentised bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_SEED = 1998


def clustered_lower_bound(values: Sequence[float], clusters: Sequence[str], alpha: float) -> float:
    """Return the one-sided 1 − α lower bound of the mean of `values`, each in [−1, 1] and of the cluster beside it.

    Whole clusters are drawn with replacement and each draw's distance from the mean is taken in its own standard errors
    (bootstrap-t; A. C. Cameron, J. B. Gelbach, D. L. Miller, Review of Economics and Statistics 90, 2008, 414–427). The
    draws have a fixed seed: the same answers are the same verdict.
    """
    sums, sizes = _by_cluster(values, clusters)
    mean, error = float(sums.sum() / sizes.sum()), float(_standard_error(sums, sizes))
    if error == 0:
        return max(-1.0, mean - _unseen(len(sums), alpha))
    drawn, errors = _resampled(_weights(len(sums)), sums, sizes)
    # A draw of equal clusters has no error to measure by; it is as far as can be, to whichever side it lies.
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = np.nan_to_num((drawn - mean) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
    bound = mean - float(np.quantile(distances, 1 - alpha, method="higher")) * error
    return max(-1.0, min(bound, mean))


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _names, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(places, np.asarray(values, np.float64)).astype(np.float64)
    return sums, np.bincount(places).astype(np.float64)


@lru_cache(maxsize=1)
def _weights(clusters: int) -> NDArray[np.float32]:
    """How often each draw has each cluster, shape (draws, clusters)."""
    drawn = np.random.default_rng(_SEED).multinomial(clusters, np.full(clusters, 1 / clusters), RESAMPLES)
    return drawn.astype(np.float32)


def _standard_error(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """The linearised standard error of a ratio of two sums over clusters."""
    count = len(sums)
    if count < 2:
        return 0.0
    residuals = sums - sums.sum() / sizes.sum() * sizes
    # What rounding leaves of equal values is no spread.
    squares = float(np.square(residuals).sum())
    return 0.0 if squares < 1e-20 else float(np.sqrt(count / (count - 1) * squares) / sizes.sum())


def _resampled(
    weights: NDArray[np.float32], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each draw's mean and standard error; shapes (draws,)."""
    count, totals = len(sums), weights @ sizes
    means = weights @ sums / totals
    squares = weights @ (sums * sums) - 2 * means * (weights @ (sums * sizes)) + means**2 * (weights @ (sizes * sizes))
    return means, np.sqrt(count / (count - 1) * np.maximum(squares, 0.0)) / totals


def _unseen(clusters: int, alpha: float) -> float:
    """How often what no cluster showed may happen: the exact bound of a share of which nothing was seen."""
    return float(1 - alpha ** (1 / clusters))
