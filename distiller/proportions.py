"""Paired proportions: Tango's score bound, Wilson's, McNemar's exact test, and how many pairs a verdict takes."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def tango_lower_bound(b: int, c: int, n: int, alpha: float) -> float:
    """Return the one-sided 1 − α score bound of (b − c)/n: the least difference that the score test does not reject.

    T. Tango, Statistics in Medicine 17(8), 1998, 891–908: it keeps its error where few pairs disagree and the Wald
    interval does not. b pairs are right by the one alone, c by the other, of n.
    """
    z = _NORMAL.inv_cdf(1 - alpha)
    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        if _score(b, c, n, middle) > z:
            low = middle
        else:
            high = middle
    return low


def tango_upper_bound(b: int, c: int, n: int, alpha: float) -> float:
    """Return the one-sided upper 1 − α score bound of (b − c)/n."""
    return -tango_lower_bound(c, b, n, alpha)


def _score(b: int, c: int, n: int, difference: float) -> float:
    """Tango's statistic of the hypothesis that the true difference is `difference` (his equations 5 to 9)."""
    # The share of pairs that the other alone answers, most likely under the hypothesis, solves a quadratic equation.
    linear = (2 * n - b + c) * difference - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * difference * (1 - difference)))
    other_only = max(0.0, (root - linear) / (4 * n))
    variance = n * (2 * other_only + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance <= 0 else math.inf
    return distance / math.sqrt(variance)


def wilson(correct: int, of: int, alpha: float) -> tuple[float, float]:
    """Return Wilson's bounds of a share, each one-sided at 1 − α, together the two-sided interval at 1 − 2α.

    E. B. Wilson, JASA 22, 1927, 209–212.
    """
    if of == 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf(1 - alpha)
    share = correct / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(b: int, c: int) -> float:
    """Return the two-sided exact p-value of b and c discordant pairs being equally likely."""
    discordant = b + c
    tail: float = sum(math.comb(discordant, i) for i in range(min(b, c) + 1)) / 2**discordant
    return min(1.0, 2 * tail)


def pairs_needed(margin: float, alpha: float, power: float, discordance: float) -> int:
    """Return how many pairs let a model that is exactly equal pass with that power.

    `discordance` is the share of pairs that one of both alone answers rightly. The large-sample formula,
    (z of 1 − α + z of the power)² × discordance ÷ margin².
    """
    z = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    return math.ceil(z * z * discordance / (margin * margin))


def power_at_equality(margin: float, alpha: float, pairs: int, discordance: float) -> float:
    """Return with which probability a model that is exactly equal passes over that many pairs, by the same formula."""
    if discordance <= 0:
        return 1.0
    return _NORMAL.cdf(margin * math.sqrt(pairs / discordance) - _NORMAL.inv_cdf(1 - alpha))
