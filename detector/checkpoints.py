"""When an account is looked at: as its requests pass round numbers and at the end of each of its days, nowhere else.

What is said of an account then depends on its own requests, not on how the rows of the lake were cut into rounds; and
all accounts that reach a checkpoint are scored in one go.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from detector import sketch
from detector.columns import Columns
from detector.sketch import DAY_S, States

LEAST = 30  # requests: nothing is said before
GROWTH, TODAYS_GROWTH = 1.25, 1.4
MOST = 10_000_000
Places = npt.NDArray[np.int64]


def _round_numbers(first: int, growth: float) -> npt.NDArray[np.int64]:
    found = [first]
    while found[-1] < MOST:
        found.append(int(np.ceil(found[-1] * growth)))
    return np.array(found)


EVER, TODAY = _round_numbers(LEAST, GROWTH), _round_numbers(15, TODAYS_GROWTH)


class Follower:
    """Brings states forward, day by day, and stops at checkpoints.

    `look(states, places)` is called with accounts that reached one; `end_of_day(states, places, day)` with those that
    were active on a day (since the epoch), before the first request of a later one. `take(rows, places)` is given
    requests as they are taken, so that what is counted beside the states has reached the same request at a look.
    """

    def __init__(
        self,
        look: Callable[[States, Places], None],
        end_of_day: Callable[[States, Places, int], None],
        least: int = LEAST,
        take: Callable[[Columns, Places], None] = lambda _rows, _places: None,
    ) -> None:
        self._look, self._end_of_day, self._take = look, end_of_day, take
        self._least = max(least, LEAST)
        self.day = -1

    def days(self, rows: Columns) -> Iterator[tuple[int, Places]]:
        """Yield the days of requests in event time, each with their places; late ones belong to the day there is."""
        return _days(rows, self.day)

    def begin(self, states: States, day: int) -> None:
        """Close the day there is where a later one begins."""
        if day > self.day:
            self.end_day(states)
            self.day = day

    def end_day(self, states: States) -> None:
        """Close the day: look at every account that was active."""
        if self.day < 0:
            return
        active = np.flatnonzero((states["day"] == self.day) & (states["total"] >= self._least))
        if len(active):
            self._look(states, active)
        self._end_of_day(states, active, self.day)

    def advance(self, states: States, rows: Columns, places: Places) -> None:
        """Take requests of the day there is."""
        wave, last = _waves(states, places, self.day, self._least)
        for number in range(int(wave.max(initial=-1)) + 1):
            chosen = wave == number
            part, mine = rows.take(chosen), places[chosen]
            self._take(part, mine)
            sketch.update(states, part, mine, self.day)
            reached = places[chosen & last]
            if len(reached):
                self._look(states, np.sort(reached))


def _days(rows: Columns, today: int) -> Iterator[tuple[int, Places]]:
    days: Places = np.maximum((rows.time // DAY_S).astype(np.int64), today)
    days = np.maximum.accumulate(days)
    bounds = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(rows)]
    for begin, end in itertools.pairwise(bounds):
        if begin < end:
            yield int(days[begin]), np.arange(begin, end)


def _waves(states: States, places: Places, day: int, least: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return, for each request, how many checkpoints its account passes before it, and whether it reaches one."""
    order = np.argsort(places, kind="stable")
    at = places[order]
    starts = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    sizes = np.diff(np.append(starts, len(at)))
    inside = np.arange(len(at)) - np.repeat(starts, sizes)
    ever = states["total"][at].astype(np.int64) + inside + 1
    today = np.where(states["day"][at] == day, states["today"][at, 0], 0).astype(np.int64) + inside + 1
    stops = (np.isin(ever, EVER) | np.isin(today, TODAY)) & (ever >= least)
    before: Places = np.cumsum(stops) - stops
    wave: Places = before - np.repeat(before[starts], sizes)
    back, last = np.empty(len(at), np.int64), np.empty(len(at), bool)
    back[order], last[order] = wave, stops
    return back, last
