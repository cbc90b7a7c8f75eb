"""The gate: is the student at most `margin` worse than the teacher, with error `alpha` for all attempts together?

Paired non-inferiority. Both models answer the same n requests, and the student passes when the one-sided lower bound of
the mean difference of their scores lies above −margin. Where an answer is right or wrong the bound is Tango's
(`proportions`); where it is right in parts, or where a conversation has several requests, whole conversations are
resampled (`bootstrap`), and of two bounds the lower counts.

Margin, α and the number of attempts are fixed before a student exists. Each sealed test spends α ÷ attempts, and none
is left after the last (Bonferroni's inequality: whatever the candidates, and whatever one teaches about the next).
Too few pairs are no verdict: neither a pass nor a refusal, and the words say how many are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from distiller.bootstrap import clustered_lower_bound
from distiller.proportions import (
    mcnemar,
    pairs_needed,
    power_at_equality,
    tango_lower_bound,
    tango_upper_bound,
    wilson,
)

TANGO = "paired non-inferiority, Tango's one-sided score bound of the difference (Statistics in Medicine 17, 1998)"
BOOTSTRAP = "paired non-inferiority, one-sided bound of the difference by a studentised bootstrap of conversations"
MINIMUM_PAIRS = 400
MARGIN = 0.05
ALPHA = 0.05
POWER = 0.8
DISCORDANCE = 0.08  # what pairs are planned for, before any answer is known
LATER_DISCORDANCE = 0.2

Metric = Literal["exact", "fields"]
Outcome = Literal["passed", "refused", "no verdict"]


@dataclass(frozen=True)
class Rule:
    """What the gate asks for, fixed before training.

    `margin` is a share (0.05: five points); `alpha` is one-sided and of all `attempts` together, each of which has its
    part. `metric`: `exact` (an answer is right or wrong) or `fields` (the F1 of a JSON answer's fields). `slices` are
    protected (see `distiller.slices`).
    """

    margin: float = MARGIN
    alpha: float = ALPHA
    minimum_pairs: int = MINIMUM_PAIRS
    attempts: int = 1
    metric: Metric = "exact"
    slices: tuple[str, ...] = ()

    @property
    def alpha_spent(self) -> float:
        """What one sealed test may spend."""
        return self.alpha / self.attempts

    @property
    def planned_pairs(self) -> int:
        """The fewest pairs that are worth a sealed test: what an equal student needs at the planned discordance."""
        return max(self.minimum_pairs, pairs_needed(self.margin, self.alpha_spent, POWER, DISCORDANCE))

    def words_of_planning(self) -> str:
        """Say how many pairs it takes, at the planned discordance and at a higher one."""
        needed = [
            pairs_needed(self.margin, self.alpha_spent, POWER, share) for share in (DISCORDANCE, LATER_DISCORDANCE)
        ]
        return (
            f"at {100 * self.margin:g} points, α {100 * self.alpha_spent:.3g} % and {POWER:.0%} power an equal student "
            f"needs {needed[0]:,} pairs where {DISCORDANCE:.0%} of the answers differ, {needed[1]:,} where "
            f"{LATER_DISCORDANCE:.0%} do"
        )


@dataclass(frozen=True)
class Share:
    """How often a model was right, or its mean score, with an interval at 1 − 2α; `correct` counts full scores."""

    correct: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """The gate's decision. `difference` is student − teacher, `difference_lower_bound` its one-sided bound at 1 − α.

    `lower_bound` is the student's own one-sided bound at 1 − α, which a quality floor compares with. `alpha` is what
    this test spent. `missing` pairs are wanted for 80 % power at equality and the discordance that was found, `power`
    is what these had. `mcnemar_p` is the two-sided exact p-value of equal shares. `verdict` says it in words.
    """

    passed: bool
    outcome: Outcome
    verdict: str
    method: str
    metric: Metric
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
    power: float
    missing: int

    def as_row(self) -> dict[str, object]:
        """Return the verdict as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Found:
    """What was measured: the difference, its bounds on both sides, and the mean square of a pair's difference."""

    method: str
    difference: float
    low: float
    high: float
    discordance: float


def decide(
    student: Sequence[float], teacher: Sequence[float], rule: Rule, conversations: Sequence[str] | None = None
) -> Verdict:
    """Compare scores in [0, 1], request by request, in sequences of equal length.

    `conversations` names each request's; without it every request is one of its own.
    """
    pairs = list(zip(student, teacher, strict=True))
    talks = [str(number) for number in range(len(pairs))] if conversations is None else list(conversations)
    found = _measure(pairs, talks, rule)
    counts = _counts(pairs)
    outcome, missing = _outcome(found, len(pairs), rule)
    own, reference = (_share(side, talks, rule) for side in (student, teacher))
    return Verdict(
        passed=outcome == "passed",
        outcome=outcome,
        verdict=_words(outcome, missing, len(pairs), found, rule),
        method=found.method,
        metric=rule.metric,
        margin=rule.margin,
        alpha=rule.alpha_spent,
        minimum_pairs=rule.minimum_pairs,
        pairs=len(pairs),
        teacher=reference,
        student=own,
        **counts,
        difference=found.difference,
        difference_lower_bound=found.low,
        lower_bound=own.low,
        mcnemar_p=mcnemar(counts["student_only_right"], counts["teacher_only_right"]),
        power=power_at_equality(rule.margin, rule.alpha_spent, len(pairs), found.discordance),
        missing=missing,
    )


def _measure(pairs: Sequence[tuple[float, float]], conversations: Sequence[str], rule: Rule) -> _Found:
    n, alpha = len(pairs), rule.alpha_spent
    if not n:
        return _Found(TANGO, 0.0, -1.0, 1.0, 0.0)
    differences = [float(own) - float(other) for own, other in pairs]
    graded = not all(value in (-1.0, 0.0, 1.0) for value in differences)
    b, c = differences.count(1.0), differences.count(-1.0)
    method, bounds = TANGO, [] if graded else [(tango_lower_bound(b, c, n, alpha), tango_upper_bound(b, c, n, alpha))]
    if graded or len(set(conversations)) < n:
        method = BOOTSTRAP
        opposite = [-value for value in differences]
        bounds.append(
            (
                clustered_lower_bound(differences, conversations, alpha),
                -clustered_lower_bound(opposite, conversations, alpha),
            )
        )
    squares = sum(value * value for value in differences) / n
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    return _Found(method, sum(differences) / n, low, high, squares)


def _outcome(found: _Found, n: int, rule: Rule) -> tuple[Outcome, int]:
    """Return the outcome, and how many more pairs a verdict takes."""
    needed = max(rule.minimum_pairs, pairs_needed(rule.margin, rule.alpha_spent, POWER, found.discordance))
    missing = max(0, needed - n)
    if n >= rule.minimum_pairs and found.low > -rule.margin:
        return "passed", 0
    # What is proven to be worse is refused, however few the pairs.
    return ("no verdict", missing) if missing and found.high > -rule.margin else ("refused", 0)


def _counts(pairs: Sequence[tuple[float, float]]) -> Mapping[str, Any]:
    full = [(own == 1, other == 1) for own, other in pairs]
    return {
        "both_right": full.count((True, True)),
        "student_only_right": full.count((True, False)),
        "teacher_only_right": full.count((False, True)),
        "both_wrong": full.count((False, False)),
    }


def _share(scores: Sequence[float], conversations: Sequence[str], rule: Rule) -> Share:
    n, correct = len(scores), sum(score == 1 for score in scores)
    if not n:
        return Share(0, 0, 0.0, 0.0, 1.0)
    low, high = wilson(correct, n, rule.alpha_spent)
    if not all(score in (0, 1) for score in scores):
        low = clustered_lower_bound(scores, conversations, rule.alpha_spent)
        high = 1 - clustered_lower_bound([1 - score for score in scores], conversations, rule.alpha_spent)
    return Share(correct, n, sum(scores) / n, max(0.0, low), min(1.0, high))


def _words(outcome: Outcome, missing: int, n: int, found: _Found, rule: Rule) -> str:
    if outcome == "no verdict":
        return (
            f"no verdict: {n} pairs are too few where {100 * found.discordance:.1f} % of the answers differ, "
            f"{missing:,} more are missing: select a snapshot with more gate rows, or give answers for more of them"
        )
    points = f"{100 * found.difference:+.1f} points against the teacher over {n} pairs"
    sure = f"with {100 * (1 - rule.alpha_spent):.4g} % confidence no worse than {100 * found.low:+.1f}"
    if outcome == "passed":
        return f"passed: {points}, {sure}, within the margin of {100 * rule.margin:g} points fixed before training"
    return f"refused: {points}, {sure}, which the margin of {100 * rule.margin:g} points does not allow"
