"""Evidence that adds up over time."""

from __future__ import annotations

import numpy as np
import pytest

from detector.sequential import ALLOWANCE, CEILING, HALF_LIFE_S, HIGHEST_ALLOWANCE, THRESHOLD, Cusum
from detector.windows import HOUR_S, INDEX, SUMS


def test_evidence_above_the_allowance_adds_up_at_any_pace() -> None:
    """The same requests reach the same sum in minutes or, but for the slow fading, in weeks."""
    fast, slow = Cusum(), Cusum()
    for number in range(100):
        fast.add(1.0 + number, (0.9, 0, 0, 0, 0))
        slow.add(1.0 + number * 3 * HOUR_S, (0.9, 0, 0, 0, 0))
    assert fast.level == pytest.approx(100 * (0.9 - ALLOWANCE) / THRESHOLD)
    assert 0.8 * fast.level < slow.level < fast.level
    assert fast.family == "collecting"


def test_ordinary_evidence_never_adds_up() -> None:
    """What stays below the allowance on average comes back to nothing, and no sum grows for ever."""
    cusum = Cusum()
    rng = np.random.default_rng(1)
    levels = [cusum.add(float(i), (float(rng.uniform(0.0, 0.8)), 0, 0, 0, 0)) for i in range(20_000)]
    assert max(levels) < 0.6
    for number in range(2_000):
        cusum.add(20_000.0 + number, (1.0, 0, 0, 0, 0))
    assert cusum.level == CEILING / THRESHOLD
    cusum.add(20_000.0 + 2_000 + HALF_LIFE_S, (ALLOWANCE, 0, 0, 0, 0))
    assert cusum.level < 0.51 * CEILING / THRESHOLD


def test_a_habit_raises_the_allowance_but_not_without_end() -> None:
    """A past that half harvested raises what must be exceeded a little; one that did nothing else raises it no more."""
    for habit, allowance in ((0.0, ALLOWANCE), (0.4, 0.5), (1.0, HIGHEST_ALLOWANCE)):
        past = np.zeros(len(SUMS))
        past[[INDEX["answered"], INDEX["collecting"]]] = 100.0, habit * 100.0
        cusum = Cusum()
        cusum.set_past(past)
        cusum.add(1.0, (1.0, 0, 0, 0, 0))
        assert cusum.level * THRESHOLD == pytest.approx(1.0 - allowance)
