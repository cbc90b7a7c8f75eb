"""The gate: is the student at most `margin` less often right than the teacher, with error `alpha`?

Paired non-inferiority. Both models answer the same n requests; b are right by the student alone, c by the teacher
alone. The student passes when the one-sided lower confidence bound of the difference (b − c)/n lies above −margin. The
bound is Tango's score bound (T. Tango, Statistics in Medicine 17(8), 1998, 891–908), which keeps its error where few
pairs disagree and the Wald interval does not. The shares are reported with Wilson's interval (JASA 22, 1927, 209–212),
the disagreement with the exact McNemar test. Margin and α are fixed before training; too few pairs never pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

METHOD = "paired non-inferiority, Tango's one-sided score bound of the difference (Statistics in Medicine 17, 1998)"
MINIMUM_PAIRS = 400
MARGIN = 0.05
ALPHA = 0.05


@dataclass(frozen=True)
class Rule:
    """What the gate asks for, fixed before training. `margin` is a share (0.05: five points), `alpha` one-sided."""

    margin: float = MARGIN
    alpha: float = ALPHA
    minimum_pairs: int = MINIMUM_PAIRS


@dataclass(frozen=True)
class Share:
    """How often a model was right, with Wilson's two-sided interval at 1 − 2α."""

    correct: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """The gate's decision. `difference` is student − teacher, `difference_lower_bound` its one-sided bound at 1 − α.

    `lower_bound` is the student's own one-sided Wilson bound at 1 − α, which a quality floor compares with.
    `mcnemar_p` is the two-sided exact p-value of equal shares. `verdict` says it in words.
    """

    passed: bool
    verdict: str
    method: str
    margin: float
    alpha: float
    minimum_pairs: int
    pairs: int
    teacher: Share
    student: Share
    both_right: int
    student_only_right: int
    teacher_only_right: int
    both_wrong: int
    difference: float
    difference_lower_bound: float
    lower_bound: float
    mcnemar_p: float

    def as_row(self) -> dict[str, object]:
        """Return the verdict as plain JSON values."""
        return asdict(self)


def decide(student: Sequence[bool], teacher: Sequence[bool], rule: Rule) -> Verdict:
    """Compare correctness, request by request; the two sequences are of equal length."""
    pairs = list(zip(student, teacher, strict=True))
    b, c = pairs.count((True, False)), pairs.count((False, True))
    both = pairs.count((True, True))
    n = len(pairs)
    bound = tango_lower_bound(b, c, n, rule.alpha) if n else -1.0
    enough = n >= rule.minimum_pairs
    passed = enough and bound > -rule.margin
    own, reference = _share(both + b, n, rule.alpha), _share(both + c, n, rule.alpha)
    return Verdict(
        passed=passed,
        verdict=_words(passed, enough, n, (b - c) / n if n else 0.0, bound, rule),
        method=METHOD,
        **asdict(rule),
        pairs=n,
        teacher=reference,
        student=own,
        both_right=both,
        student_only_right=b,
        teacher_only_right=c,
        both_wrong=n - both - b - c,
        difference=(b - c) / n if n else 0.0,
        difference_lower_bound=bound,
        lower_bound=own.low,
        mcnemar_p=mcnemar(b, c),
    )


def tango_lower_bound(b: int, c: int, n: int, alpha: float) -> float:
    """Return the one-sided 1 − α score bound of (b − c)/n: the least difference that the score test does not reject."""
    z = NormalDist().inv_cdf(1 - alpha)
    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        if _score(b, c, n, middle) > z:
            low = middle
        else:
            high = middle
    return low


def _score(b: int, c: int, n: int, difference: float) -> float:
    """Tango's statistic of the hypothesis that the true difference is `difference` (his equations 5 to 9)."""
    # The share of pairs that the teacher alone answers, most likely under the hypothesis, solves a quadratic equation.
    linear = (2 * n - b + c) * difference - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * difference * (1 - difference)))
    teacher_only = max(0.0, (root - linear) / (4 * n))
    variance = n * (2 * teacher_only + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance <= 0 else math.inf
    return distance / math.sqrt(variance)


def wilson(correct: int, of: int, alpha: float) -> tuple[float, float]:
    """Return Wilson's bounds of a share, each one-sided at 1 − α, together the two-sided interval at 1 − 2α."""
    if of == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - alpha)
    share = correct / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(b: int, c: int) -> float:
    """Return the two-sided exact p-value of b and c discordant pairs being equally likely."""
    discordant = b + c
    tail: float = sum(math.comb(discordant, i) for i in range(min(b, c) + 1)) / 2**discordant
    return min(1.0, 2 * tail)


def _share(correct: int, of: int, alpha: float) -> Share:
    low, high = wilson(correct, of, alpha)
    return Share(correct, of, correct / of if of else 0.0, low, high)


def _words(passed: bool, enough: bool, n: int, difference: float, bound: float, rule: Rule) -> str:
    if not enough:
        return (
            f"refused: {n} pairs are too few for a verdict, {rule.minimum_pairs} are the least "
            f"({rule.minimum_pairs - n} more): select a snapshot with more gate rows, or give answers for more of them"
        )
    points = f"{100 * difference:+.1f} points against the teacher over {n} pairs"
    sure = f"with {1 - rule.alpha:.0%} confidence no worse than {100 * bound:+.1f}"
    if passed:
        return f"passed: {points}, {sure}, within the margin of {100 * rule.margin:g} points fixed before training"
    return f"refused: {points}, {sure}, which the margin of {100 * rule.margin:g} points does not allow"
