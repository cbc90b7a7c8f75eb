"""Sums over event time: hours of an account's traffic, from which windows of 1 h, 1 d, 7 d and 28 d are read.

A window ends with the clock hour it is asked for and holds whole hours, so a request costs one addition whatever the
number of windows; what is older than 28 days is forgotten.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from detector.evidence import FAMILIES

HOUR_S = 3600.0
HOUR, DAY, WEEK, MONTH = 1, 24, 7 * 24, 28 * 24  # windows, in hours
SUMS = (
    "requests",  # all, answered or not
    "answered",  # by the teacher
    "live",
    "input_tokens",
    "output_tokens",
    "leaked_tokens",
    "cost",
    "unseen",
    "unseen_known",
    "spread",
    "spread_known",
    "single",
    "application",
    "application_known",
    "tiny",
    "logprobs",
    "many_choices",
    "repeated",
    "elicits",
    "grades",
    "users_returning",
    "with_text",
    *FAMILIES,
)
INDEX = {name: position for position, name in enumerate(SUMS)}
Sums = npt.NDArray[np.float64]


class Windows:
    """Hourly sums of one account."""

    def __init__(self) -> None:
        self._hours: dict[int, Sums] = {}
        self._newest = 0

    def add(self, time: float, values: Sums) -> None:
        """Add a request's values (in the order of `SUMS`) at a time in seconds."""
        hour = int(time // HOUR_S)
        known = self._hours.get(hour)
        if known is not None:
            known += values
            return
        self._hours[hour] = values.copy()
        if hour > self._newest:
            self._newest = hour
            for old in [old for old in self._hours if old <= hour - MONTH - DAY]:
                del self._hours[old]

    def total(self, time: float, hours: int, until: int = 0) -> Sums:
        """Sum the `hours` that end with the clock hour of `time`, less the last `until` of them."""
        last = int(time // HOUR_S)
        return self._sum(last - hours + 1, last - until)

    def today(self, time: float) -> Sums:
        """Sum the calendar day (UTC) of `time`; it never overlaps with `before_day`."""
        first = int(time // (DAY * HOUR_S)) * DAY
        return self._sum(first, first + DAY - 1)

    def before_day(self, time: float) -> Sums:
        """Sum the 28 days before the calendar day (UTC) of `time`: the account's own past."""
        first = int(time // (DAY * HOUR_S)) * DAY
        return self._sum(first - MONTH, first - 1)

    def daily(self) -> list[dict[str, float | str]]:
        """Return, oldest first, each day's requests and teacher tokens, as an alert's sparkline has them."""
        days: dict[int, Sums] = {}
        for hour, values in self._hours.items():
            days[hour // DAY] = days.get(hour // DAY, np.zeros(len(SUMS))) + values
        return [
            {
                "day": datetime.fromtimestamp(day * DAY * HOUR_S, UTC).date().isoformat(),
                "requests": int(values[INDEX["requests"]]),
                "teacher_tokens": int(values[INDEX["output_tokens"]]),
            }
            for day, values in sorted(days.items())
        ]

    def _sum(self, first: int, last: int) -> Sums:
        chosen = [values for hour, values in self._hours.items() if first <= hour <= last]
        return np.sum(chosen, axis=0) if chosen else np.zeros(len(SUMS))
