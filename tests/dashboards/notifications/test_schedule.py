"""Quiet hours and pauses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboards.notifications import schedule
from gateway.settings import NotificationSettings


@pytest.mark.parametrize(
    ("quiet", "zone", "clock", "expected"),
    [
        ("22:00-07:00", "UTC", "23:30", True),
        ("22:00-07:00", "UTC", "06:59", True),
        ("22:00-07:00", "UTC", "07:00", False),
        ("22:00-07:00", "UTC", "21:59", False),
        ("12:00-13:00", "UTC", "12:30", True),
        ("12:00-13:00", "UTC", "13:30", False),
        ("22:00-07:00", "Asia/Tokyo", "13:30", True),
        ("22:00-07:00", "Asia/Tokyo", "22:30", False),
        ("", "UTC", "03:00", False),
    ],
)
def test_quiet_hours_go_past_midnight_and_by_their_own_clock(quiet: str, zone: str, clock: str, expected: bool) -> None:
    """The end is no longer quiet."""
    hours, minutes = clock.split(":")
    moment = datetime(2026, 11, 25, int(hours), int(minutes), tzinfo=UTC)
    assert schedule.is_quiet(NotificationSettings(quiet=quiet, quiet_zone=zone), moment) is expected


def test_pauses_grow_to_an_hour_and_give_up_after_a_day() -> None:
    """Within a fifth of ten seconds, twenty, forty …, and never longer than an hour."""
    moment = datetime(2026, 11, 25, tzinfo=UTC)
    pauses = [(schedule.next_try(attempt, moment) - moment).total_seconds() for attempt in range(1, 30)]
    assert 8 <= pauses[0] <= 12
    assert 64 <= pauses[3] <= 96
    assert all(2880 <= pause <= 4320 for pause in pauses[9:])
    assert timedelta(hours=15) < timedelta(seconds=sum(pauses)) < timedelta(hours=30)
