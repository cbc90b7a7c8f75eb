"""The arithmetic of a gain: whose losses are lower, by how much, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from distiller.gains import gain_of, paired_interval


def test_a_gain_is_how_much_lower_the_suspects_losses_are() -> None:
    """The mean over seeds and rows of the ordinary probe's loss less the suspect's on the same row."""
    gain = gain_of([[1.0, 2.0], [2.0, 3.0]], [[2.0, 2.0], [4.0, 3.0]], [7, 8], [9.0, 11.0], [0.5, 1.5])
    assert (gain.gain, gain.by_seed) == (0.75, (0.5, 1.0))
    assert (gain.suspect, gain.ordinary, gain.untrained, gain.teacher) == (2.0, 2.75, 10.0, 1.0)
    assert (gain.rows, gain.groups) == (2, 2)
    assert gain.low <= gain.gain <= gain.high


def test_rows_are_compared_with_themselves() -> None:
    """How hard a row is makes the interval no wider: only the difference on it counts."""
    hard = np.linspace(0, 50, 40)
    ours, theirs, each = [hard.tolist()] * 2, [(hard + 0.3).tolist()] * 2, hard.tolist()
    same = gain_of(ours, theirs, range(40), each, each)
    assert (same.low, same.high) == pytest.approx((0.3, 0.3))


def test_rows_of_one_group_are_one_observation() -> None:
    """Forty rows in four groups that agree within say less than forty groups."""
    rows = np.repeat([[0.0, 1.0, 0.0, 1.0]], 10, axis=1)
    apart, together = (paired_interval(rows, groups) for groups in (list(range(40)), np.repeat(range(4), 10).tolist()))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_seeds_that_disagree_widen_the_interval() -> None:
    """What one training found is no finding where the next finds the contrary."""
    low, high = paired_interval(np.array([[0.5] * 30, [0.5] * 30, [-0.7] * 30]), range(30))
    assert low < 0 < high
    low, _ = paired_interval(np.array([[0.5] * 30, [0.5] * 30, [0.4] * 30]), range(30))
    assert low > 0


def test_the_interval_holds_what_it_says() -> None:
    """Of intervals for a true difference of 0.2, with noise of rows, groups and seeds, nine in ten hold it at least."""
    draws, held = np.random.default_rng(3), 0
    for _ in range(60):
        groups = np.repeat(range(30), 2)
        noise = draws.normal(0, 0.3, 30)[groups] + draws.normal(0, 0.3, (4, 60)) + draws.normal(0, 0.02, (4, 1))
        low, high = paired_interval(0.2 + noise, groups.tolist())
        held += low <= 0.2 <= high
    assert held >= 54
