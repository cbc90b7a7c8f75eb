"""When an account is looked at: as its requests pass round numbers and at the end of each of its days, nowhere else.

What is said of an account then depends on its own requests, not on how the rows of the lake were cut into rounds; and
all accounts that reach a checkpoint are scored in one go.

Requests come in the order of their arrival, and not all arrive on their day. One of an earlier day belongs to that day:
where its account has been seen on none since, its days go by as they did; where it has (history that is imported
beside live traffic), the state of what came late is added to the account's own, as if two accounts were one. And no
request is later than now: once there are live ones, what a wrong clock dates ahead counts as of now, or everybody's
days would stand still until then.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from detector import sketch
from detector.columns import Columns
from detector.sketch import DAY_S, States

LEAST = 30  # requests: nothing is said before
GROWTH, TODAYS_GROWTH = 1.25, 1.4
MOST = 10_000_000
MEMORIES = ("bands", "talks", "last_topic")  # of what an account asked
logger = logging.getLogger(__name__)
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
    `clock` returns the present time in seconds.
    """

    def __init__(
        self,
        look: Callable[[States, Places], None],
        end_of_day: Callable[[States, Places, int], None],
        least: int = LEAST,
        take: Callable[[Columns, Places], None] = lambda _rows, _places: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._look, self._end_of_day, self._take, self._clock = look, end_of_day, take, clock
        self._least = max(least, LEAST)
        self.day = -1
        self._taken = -1  # the day whose requests are taken: that one, or an earlier one of requests that come late
        self._now = np.inf  # until there is a live request: a simulated month may lie ahead
        self._is_warned = False
        self._unlooked: set[int] = set()  # accounts that late requests were taken of since they were looked at

    def days(self, rows: Columns) -> Iterator[tuple[int, Places]]:
        """Yield the days of requests in event time, each with their places."""
        if self._now < np.inf or rows.live.any():
            self._now = self._clock()
            self._warn_if_ahead()
        return _days(self._dated(rows))

    def begin(self, states: States, day: int) -> None:
        """Close the day there is where a later one begins."""
        self._taken = day
        if day > self.day:
            self.end_day(states)
            self.day = day

    def end_day(self, states: States) -> None:
        """Close the day: look at every account that was active on it, or whose earlier requests came meanwhile."""
        if self.day < 0:
            return
        enough = states["total"] >= self._least
        active = np.flatnonzero((states["day"] == self.day) & enough)
        late = np.array([place for place in sorted(self._unlooked) if place < len(states) and enough[place]], np.int64)
        self._unlooked.clear()
        looked = np.union1d(active, late)
        if len(looked):
            self._look(states, looked)
        self._end_of_day(states, active, self.day)

    def advance(self, states: States, rows: Columns, places: Places) -> None:
        """Take requests of the day that was begun."""
        rows = self._dated(rows)
        is_past = states["day"][places] > self._taken
        if is_past.any():
            self._add_past(states, rows.take(is_past), places[is_past])
            rows, places = rows.take(~is_past), places[~is_past]
        if not len(rows):
            return
        self._end_late_days(states, places)
        if self._taken < self.day:
            self._unlooked.update(np.unique(places).tolist())
        self._go_on(states, rows, places)

    def _go_on(self, states: States, rows: Columns, places: Places) -> None:
        """Take requests that their accounts' states are not past, and look where a checkpoint is reached."""
        wave, last = _waves(states, places, self._taken, self._least)
        for number in range(int(wave.max(initial=-1)) + 1):
            chosen = wave == number
            part, mine = rows.take(chosen), places[chosen]
            self._take(part, mine)
            sketch.update(states, part, mine, self._taken)
            reached = places[chosen & last]
            if len(reached):
                self._look(states, np.sort(reached))

    def _add_past(self, states: States, rows: Columns, places: Places) -> None:
        """Take requests that came after later ones of their accounts; what was asked since is no news in them."""
        self._take(rows, places)
        for place in np.unique(places).tolist():
            own, past = states[place : place + 1], sketch.empty()
            for name in MEMORIES:
                past[name] = own[name]
            mine = rows.take(places == place)
            sketch.update(past, mine, np.zeros(len(mine), np.int64), self._taken)
            states[place] = sketch.merge(np.concatenate([own, past]))[0]
            self._unlooked.add(place)

    def _end_late_days(self, states: States, places: Places) -> None:
        """Look at accounts whose earlier day, of requests that came late, is over: these are of a later one."""
        if not self._unlooked:
            return
        ended = self._unlooked & set(places[states["day"][places] < self._taken].tolist())
        self._unlooked -= ended
        looked = np.array([place for place in sorted(ended) if states["total"][place] >= self._least], np.int64)
        if len(looked):
            self._look(states, looked)

    def _dated(self, rows: Columns) -> Columns:
        return replace(rows, time=rows.time.clip(0, self._now))

    def _warn_if_ahead(self) -> None:
        ahead = self.day - int(self._now // DAY_S)
        if ahead > 1 and not self._is_warned:
            self._is_warned = True
            logger.warning(
                "requests were dated up to %s days ahead of this machine's clock: mend the clock, then stop the "
                "detector and remove detector/state in data_dir, so that it reads the lake again",
                ahead,
            )


def _days(rows: Columns) -> Iterator[tuple[int, Places]]:
    days = (rows.time // DAY_S).astype(np.int64)
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
