"""What is made of runs in pairs: differences and ratios within each pair, so that a drift of the machine cancels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


def differences(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Return ours minus theirs, pair by pair, without the pairs in which one has no figure."""
    pairs = zip(ours, theirs, strict=True)
    return [round(our - their, 3) for our, their in pairs if our is not None and their is not None]


@dataclass(frozen=True)
class Ratio:
    """The ratio of pairs: their median, and the 95 % interval of their geometric mean (Student's t on logarithms)."""

    median: float
    low: float
    high: float

    @property
    def is_one_within_noise(self) -> bool:
        """Could the ratio be 1, by these pairs?"""
        return self.low <= 1.0 <= self.high


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratio of ours to theirs; needs two pairs."""
    logarithms = [math.log(our / their) for our, their in zip(ours, theirs, strict=True)]
    middle = statistics.fmean(logarithms)
    error = statistics.stdev(logarithms) / math.sqrt(len(logarithms))
    reach = float(stats.t.ppf(0.975, len(logarithms) - 1)) * error
    return Ratio(math.exp(statistics.median(logarithms)), math.exp(middle - reach), math.exp(middle + reach))
