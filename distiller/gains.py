"""By how much one side's probes are likelier to say what the teacher said, with an interval over seeds and rows.

The interval is a percentile bootstrap of both at once: seeds are drawn with replacement, and groups of rows that are
near one another, and every draw keeps the two sides' losses on one row together (A. B. Owen, "The pigeonhole
bootstrap", Annals of Applied Statistics 1, 2007, 386–411, who shows that it errs to the wide side). Three seeds are
few: what they say of the spread between trainings is rough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
CONFIDENCE = 0.95
_SEED = 2007

Losses = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Gain:
    """Nats a token that the suspect's probes are ahead on held-out rows, with its 95 % interval; below 0: behind.

    `by_seed` are the seeds' own means. The levels are mean losses of the probes, of the student that learnt nothing and
    of the teacher itself, which is the least that can be reached.
    """

    gain: float
    low: float
    high: float
    rows: int
    groups: int
    by_seed: tuple[float, ...]
    suspect: float
    ordinary: float
    untrained: float
    teacher: float


def gain_of(
    suspect: Losses, ordinary: Losses, groups: Sequence[int], untrained: Sequence[float], teacher: Sequence[float]
) -> Gain:
    """Compare losses of shape (seeds, rows), in nats a token, of both sides; `groups` names each row's group."""
    ours, theirs = np.asarray(suspect, np.float64), np.asarray(ordinary, np.float64)
    ahead = theirs - ours
    low, high = paired_interval(ahead, groups)
    return Gain(
        gain=float(ahead.mean()),
        low=low,
        high=high,
        rows=ahead.shape[1],
        groups=len(set(groups)),
        by_seed=tuple(ahead.mean(axis=1).tolist()),
        suspect=float(ours.mean()),
        ordinary=float(theirs.mean()),
        untrained=float(np.mean(untrained)),
        teacher=float(np.mean(teacher)),
    )


def paired_interval(differences: NDArray[np.float64], groups: Sequence[int]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences of shape (seeds, rows), rows drawn by whole groups.

    The draws have a fixed seed: the same losses are the same interval.
    """
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    seeds = len(differences)
    sums = np.stack([np.bincount(places, row, len(names)) for row in differences])
    sizes = np.bincount(places, minlength=len(names)).astype(np.float64)
    draws = np.random.default_rng(_SEED)
    by_seed = draws.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    by_group = draws.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    means = np.einsum("ds,sg,dg->d", by_seed, sums, by_group, optimize=True) / (by_group @ sizes)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
