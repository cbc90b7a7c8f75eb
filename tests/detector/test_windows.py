"""Windows over event time."""

from __future__ import annotations

import numpy as np

from detector.windows import DAY, HOUR, HOUR_S, INDEX, MONTH, SUMS, WEEK, Windows

DAY_S = 86400.0
NOW = 1_000 * DAY_S + 11.5 * HOUR_S


def _filled(ages_s: list[float]) -> Windows:
    windows = Windows()
    for age in sorted(ages_s, reverse=True):
        values = np.zeros(len(SUMS))
        values[[INDEX["requests"], INDEX["answered"], INDEX["output_tokens"]]] = 1.0, 1.0, 10.0
        windows.add(NOW - age, values)
    return windows


def test_each_window_holds_its_own_hours() -> None:
    """A request is in every window that reaches back to it, and in none that does not."""
    windows = _filled([0.0, 3 * HOUR_S, 3 * DAY_S, 20 * DAY_S])
    counts = [windows.total(NOW, hours)[0] for hours in (HOUR, DAY, WEEK, MONTH)]
    assert counts == [1.0, 2.0, 3.0, 4.0]
    assert windows.before_day(NOW)[0] == 2.0
    assert windows.today(NOW)[0] == 2.0


def test_what_is_older_than_the_longest_window_is_forgotten() -> None:
    """State stays bounded: hours before the 28 days are dropped when newer ones come."""
    windows = _filled([60 * DAY_S, 40 * DAY_S, 0.0])
    assert len(windows.daily()) == 1


def test_late_rows_find_their_hour() -> None:
    """Rows that come out of order count in the hour they happened in."""
    windows = _filled([0.0])
    late = np.zeros(len(SUMS))
    late[0] = 1.0
    windows.add(NOW - 2 * DAY_S, late)
    assert windows.total(NOW, DAY)[0] == 1.0
    assert [day["requests"] for day in windows.daily()] == [1, 1]
