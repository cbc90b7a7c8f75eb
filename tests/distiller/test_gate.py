"""The gate's statistics: against the literature, against brute force, and by simulation."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from distiller.bootstrap import clustered_lower_bound
from distiller.gate import Rule, decide
from distiller.proportions import mcnemar, pairs_needed, power_at_equality, tango_lower_bound, tango_upper_bound, wilson


def brute_force_bound(b: int, c: int, n: int, alpha: float) -> float:
    """Tango's bound without his closed form: the constrained likelihood is maximised numerically."""

    def score(difference: float) -> float:
        def loss(teacher_only: float) -> float:
            student_only = teacher_only + difference
            same = 1 - teacher_only - student_only
            shares = ((b, student_only), (c, teacher_only), (n - b - c, same))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in shares if count)

        low, high = max(0.0, -difference), (1 - difference) / 2
        best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return (b - c - n * difference) / math.sqrt(n * (2 * best + difference * (1 - difference)))

    z = {0.05: 1.6448536269514722, 0.025: 1.959963984540054}[alpha]
    return float(brentq(lambda difference: score(difference) - z, -0.99, (b - c) / n - 1e-9))


@pytest.mark.parametrize(("b", "c", "n"), [(10, 20, 400), (3, 1, 450), (40, 44, 500), (0, 12, 400), (7, 0, 100)])
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_tango_agrees_with_brute_force(b: int, c: int, n: int, alpha: float) -> None:
    """The closed form gives the bound that numerical maximisation of the constrained likelihood gives."""
    assert tango_lower_bound(b, c, n, alpha) == pytest.approx(brute_force_bound(b, c, n, alpha), abs=1e-5)


def test_tango_is_the_published_interval() -> None:
    """1 against 7 of 21 pairs is −0.517 to −0.026 at two-sided 95 %.

    Bentur's airway data in M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33, 2014, 2850–2875.
    """
    bounds = tango_lower_bound(1, 7, 21, 0.025), tango_upper_bound(1, 7, 21, 0.025)
    assert [round(bound, 3) for bound in bounds] == [-0.517, -0.026]


def test_how_many_pairs_a_verdict_takes() -> None:
    """At 2 points, 5 % and 80 % power: 1,237 pairs at 8 % discordance, 3,092 at 20 %; and the power is that of them."""
    assert (pairs_needed(0.02, 0.05, 0.8, 0.08), pairs_needed(0.02, 0.05, 0.8, 0.2)) == (1237, 3092)
    assert power_at_equality(0.02, 0.05, 1237, 0.08) == pytest.approx(0.8, abs=1e-3)


def test_tango_without_disagreement() -> None:
    """With no discordant pair the bound is −z²/(n + z²), as the statistic gives in closed form."""
    z2 = 1.6448536269514722**2
    assert tango_lower_bound(0, 0, 450, 0.05) == pytest.approx(-z2 / (450 + z2), abs=1e-9)


@cache
def bound(b: int, c: int, n: int) -> float:
    return tango_lower_bound(b, c, n, 0.05)


@pytest.mark.parametrize("discordance", [0.06, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("n", [400, 450])
def test_a_student_exactly_at_the_margin_seldom_passes(n: int, discordance: float) -> None:
    """Of 4,000 candidates exactly 5 points worse, at most 6.7 % pass, whatever the share of pairs that disagree."""
    rng = np.random.default_rng(20260)
    shares = [(discordance - 0.05) / 2, (discordance + 0.05) / 2, 1 - discordance]
    draws = rng.multinomial(n, shares, size=4000)
    passed = [bound(int(b), int(c), n) > -0.05 for b, c, _ in draws]
    assert np.mean(passed) <= 0.067


def test_an_equal_student_usually_passes() -> None:
    """At equality with 8 % discordant pairs and 450 rows more than 90 % of candidates pass."""
    draws = np.random.default_rng(1).multinomial(450, [0.04, 0.04, 0.92], size=1000)
    assert np.mean([bound(int(b), int(c), 450) > -0.05 for b, c, _ in draws]) > 0.9


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_wilson_covers(share: float) -> None:
    """The one-sided lower bound lies under the true share in at least 92 % of 4,000 samples of 450 at α = 5 %."""
    counts = np.random.default_rng(3).binomial(450, share, size=4000)
    assert np.mean([wilson(int(count), 450, 0.05)[0] <= share for count in counts]) >= 0.92


def test_wilson_is_the_textbook_interval() -> None:
    """81 of 263 at two-sided 95 % is 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 17, 1998, 857–872)."""
    low, high = wilson(81, 263, 0.025)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_mcnemar_is_the_binomial_test() -> None:
    """5 against 15 discordant pairs have the exact two-sided p of a fair coin, and none at all are no evidence."""
    assert mcnemar(5, 15) == pytest.approx(2 * sum(math.comb(20, i) for i in range(6)) / 2**20)
    assert mcnemar(0, 0) == 1.0


def test_verdict_counts_and_words() -> None:
    """A good student passes, with every count and both bounds in the report and the verdict in words."""
    teacher = [True] * 400 + [False] * 50
    student = [True] * 392 + [False] * 8 + [True] * 10 + [False] * 40
    verdict = decide(student, teacher, Rule())
    assert verdict.passed
    assert (verdict.both_right, verdict.student_only_right, verdict.teacher_only_right, verdict.both_wrong) == (
        392, 10, 8, 40,
    )  # fmt: skip
    assert verdict.difference == pytest.approx(2 / 450)
    assert -0.05 < verdict.difference_lower_bound < verdict.difference
    assert verdict.lower_bound == pytest.approx(wilson(402, 450, 0.05)[0])
    assert verdict.verdict.startswith("passed: +0.4 points against the teacher over 450 pairs")


def test_a_worse_student_is_refused() -> None:
    """A student right half as often is refused whatever the number of pairs."""
    verdict = decide([True, False] * 300, [True] * 600, Rule())
    assert not verdict.passed
    assert "margin of 5 points does not allow" in verdict.verdict


def test_too_few_pairs_are_no_verdict() -> None:
    """A perfect student over 399 pairs neither passes nor is refused, and the report says how many are missing."""
    verdict = decide([True] * 399, [True] * 399, Rule())
    assert (verdict.outcome, verdict.passed, verdict.missing) == ("no verdict", False, 1)
    assert "1 more are missing" in verdict.verdict


def test_much_disagreement_takes_more_pairs() -> None:
    """At two points and a fifth of the answers different, 1,237 pairs leave an equal student undecided, not refused."""
    student = [True] * 990 + [False] * 123 + [True] * 124
    teacher = [True] * 990 + [True] * 123 + [False] * 124
    verdict = decide(student, teacher, Rule(margin=0.02))
    assert verdict.outcome == "no verdict"
    assert verdict.missing == pairs_needed(0.02, 0.05, 0.8, 247 / 1237) - 1237


def test_what_is_proven_worse_is_refused_however_few_the_pairs() -> None:
    """Fifty pairs are enough to refuse a student that is wrong on all of them."""
    assert decide([False] * 50, [True] * 50, Rule()).outcome == "refused"


def test_attempts_share_what_may_be_spent() -> None:
    """With three attempts fixed beforehand each test has a third of α, so what passes once may not pass thrice."""
    student, teacher = [True] * 430 + [False] * 20, [True] * 444 + [False] * 6
    once, thrice = decide(student, teacher, Rule()), decide(student, teacher, Rule(attempts=3))
    assert (once.outcome, thrice.outcome) == ("passed", "refused")
    assert thrice.alpha == pytest.approx(0.05 / 3)


def test_the_bootstrap_agrees_with_tango_where_rows_are_independent() -> None:
    """With a conversation for every request the two bounds lie within three tenths of a point."""
    values = [1.0] * 18 + [-1.0] * 22 + [0.0] * 410
    bound = clustered_lower_bound(values, [str(i) for i in range(450)], 0.05)
    assert bound == pytest.approx(tango_lower_bound(18, 22, 450, 0.05), abs=0.003)


def test_the_bootstrap_minds_conversations() -> None:
    """The same values in conversations of five that rise and fall together leave a wider bound; seeds are fixed."""
    values = [1.0] * 20 + [-1.0] * 20 + [0.0] * 410
    alone = clustered_lower_bound(values, [str(i) for i in range(450)], 0.05)
    together = clustered_lower_bound(values, [str(i // 5) for i in range(450)], 0.05)
    assert together < 1.8 * alone < 0
    assert together == clustered_lower_bound(values, [str(i // 5) for i in range(450)], 0.05)


def test_the_bootstrap_of_equal_values_is_not_sure() -> None:
    """Where nothing differs, what may have been missed is the exact bound of a share that was never seen."""
    assert clustered_lower_bound([0.0] * 100, [str(i) for i in range(100)], 0.05) == pytest.approx(0.05**0.01 - 1)


def test_conversations_lower_the_gates_bound() -> None:
    """Right and wrong answers within conversations: the lower of Tango's bound and the bootstrap's counts."""
    student, teacher = [False] * 20 + [True] * 480, [True] * 480 + [False] * 20
    talks = [str(i // 5) for i in range(500)]
    alone, together = decide(student, teacher, Rule()), decide(student, teacher, Rule(), talks)
    assert together.difference_lower_bound < alone.difference_lower_bound
    assert "bootstrap" in together.method
    assert "Tango" in alone.method


@pytest.mark.parametrize("seed", range(3))
def test_graded_students_at_the_margin_seldom_pass(seed: int) -> None:
    """Of 200 graded candidates exactly five points worse, in conversations of three, at most a tenth pass."""
    rng = np.random.default_rng(seed)
    talks = [str(i // 3) for i in range(450)]
    passed = 0
    for _ in range(200):
        shared = np.repeat(rng.random(150), 3)
        loss = np.where(shared < 0.2, rng.choice([-1.0, -0.5, -0.25, 0.25, 0.0], 450), 0.0)
        loss += np.where(shared >= 0.2, rng.choice([-0.2, 0.0], 450, p=[0.125, 0.875]), 0.0)
        passed += clustered_lower_bound(loss.tolist(), talks, 0.05) > -0.2 * 0.3 - 0.8 * 0.025
    assert passed <= 20


def test_graded_scores_have_their_means_and_bounds() -> None:
    """Shares are mean scores, `correct` full ones, and the quality floor's bound lies below the mean."""
    student = [0.5, 1.0] * 225
    verdict = decide(student, [1.0] * 450, Rule(metric="fields"))
    assert verdict.outcome == "refused"
    assert (verdict.student.share, verdict.student.correct) == (0.75, 225)
    assert 0.7 < verdict.lower_bound < 0.75
