"""Days: each request counts on its own, whenever it arrives and whatever the clock was that dated it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from detector import columns, features, sketch
from detector.checkpoints import Follower
from detector.columns import Columns
from detector.sketch import DAY_S, States
from tests.detector import histories
from tests.detector.histories import Record

NAMES = ("app", "other")
TODAY = int(histories.LIVE.timestamp() // DAY_S)
FAR = histories.LIVE + timedelta(days=27_000)  # the year 2100, as a clock set wrongly says


class House:
    """Follows rounds of rows as the service does; `looks` counts how often each account was looked at."""

    def __init__(self, now: datetime = histories.LIVE + timedelta(hours=1)) -> None:
        self.now = now
        self.states: States = sketch.empty(len(NAMES))
        self.looks: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        self.closed: list[int] = []
        self._follower = Follower(self._look, self._close, take=self._take, clock=lambda: self.now.timestamp())

    def see(self, rows: Columns) -> None:
        """Take a round."""
        places = np.array([NAMES.index(name) for name in rows.names])[rows.account]
        for day, part in self._follower.days(rows):
            self._follower.begin(self.states, day)
            self._follower.advance(self.states, rows.take(part), places[part])

    def of(self, name: str) -> States:
        """Return an account's state."""
        place = NAMES.index(name)
        return self.states[place : place + 1]

    def _look(self, _states: States, places: npt.NDArray[np.int64]) -> None:
        self.looks.update(NAMES[place] for place in places)

    def _take(self, _rows: Columns, places: npt.NDArray[np.int64]) -> None:
        self.taken.update(NAMES[place] for place in places)

    def _close(self, _states: States, _places: npt.NDArray[np.int64], day: int) -> None:
        self.closed.append(day)


def _columns(*parts: Sequence[Record]) -> Columns:
    return columns.read(histories.to_table([row for part in parts for row in part]))


def _in_rounds(house: House, rows: Columns, size: int) -> None:
    for begin in range(0, len(rows), size):
        house.see(rows.take(np.arange(begin, min(len(rows), begin + size))))


def _same(found: States, wanted: States) -> None:
    for name in sketch.STATE.names or ():
        np.testing.assert_allclose(found[name].astype(float), wanted[name].astype(float), rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def past() -> Columns:
    """Ten days of a chat app that was elsewhere then."""
    rng = random.Random(3)
    return _columns(histories.chat_app(rng, "app", histories.history(rng, 40, 10)))


@pytest.fixture(scope="module")
def own_today() -> Columns:
    """Its requests of today."""
    rng = random.Random(4)
    return _columns(histories.chat_app(rng, "app", histories.live(rng, 50)))


@pytest.fixture(scope="module")
def others_today() -> Columns:
    """Somebody else's requests of today."""
    rng = random.Random(5)
    return _columns(histories.bulk(rng, "other", histories.live(rng, 50)))


@pytest.mark.parametrize("size", [7, 10_000])
def test_history_that_is_imported_late_goes_by_as_it_did(
    past: Columns, own_today: Columns, others_today: Columns, size: int
) -> None:
    """Others' live traffic does not make ten days one: state and looks are as if it had come before, however cut."""
    late, in_time = House(), House()
    late.see(others_today)
    _in_rounds(late, past, size)
    late.see(own_today)
    for rows in (past, others_today, own_today):
        in_time.see(rows)
    _same(late.states, in_time.states)
    assert late.looks["app"] == in_time.looks["app"]
    assert np.flatnonzero(sketch.daily(late.of("app"))[0, 0]).size > 8


@pytest.mark.parametrize("size", [7, 10_000])
def test_history_of_an_account_that_asks_today_is_no_part_of_today(
    past: Columns, own_today: Columns, size: int
) -> None:
    """Its days are where they were, today counts today's requests, and sums fade as they would have."""
    late, in_time = House(), House()
    late.see(own_today)
    _in_rounds(late, past, size)
    for rows in (past, own_today):
        in_time.see(rows)
    found, wanted = late.of("app"), in_time.of("app")
    assert found["today"][0, 0] == len(own_today)
    assert found["total"][0] == len(past) + len(own_today) == late.taken["app"]
    assert (found["first"][0], found["last"][0], found["day"][0]) == (
        wanted["first"][0],
        wanted["last"][0],
        wanted["day"][0],
    )
    np.testing.assert_allclose(sketch.daily(found)[0, 0], sketch.daily(wanted)[0, 0], rtol=0.02)
    requests = sketch.INDEX["requests"]
    np.testing.assert_allclose(found["sums"][0, :, requests], wanted["sums"][0, :, requests], rtol=1e-4)
    near = np.isclose(features.matrix(found), features.matrix(wanted), rtol=0.1, atol=0.1, equal_nan=True)
    assert near.mean() > 0.9


def test_an_account_is_looked_at_after_history_that_came_late(past: Columns, own_today: Columns) -> None:
    """What it says is not left aside until the account asks again: the end of the day there is looks at it."""
    house = House()
    house.see(own_today)
    before = house.looks["app"]
    house.see(past)
    assert house.looks["app"] == before
    house.now += timedelta(days=1)
    rng = random.Random(6)
    house.see(_columns(histories.bulk(rng, "other", histories.live(rng, 5, start=house.now))))
    assert house.looks["app"] == before + 1


def test_a_record_of_a_clock_that_runs_ahead_holds_up_no_day(own_today: Columns, others_today: Columns) -> None:
    """It counts as of now; tomorrow begins tomorrow, for its account, for all others, and for what a day closes."""
    rng = random.Random(7)
    ahead = _columns(histories.chat_app(rng, "app", histories.live(rng, 5, start=FAR)))
    house = House()
    for rows in (own_today, ahead, others_today):
        house.see(rows)
    assert house.states["day"].tolist() == [TODAY, TODAY]
    assert house.of("app")["last"][0] <= house.now.timestamp()
    assert house.of("app")["today"][0, 0] == len(own_today) + 5
    house.now += timedelta(days=1)
    tomorrow = [histories.chat_app(rng, name, histories.live(rng, 5, start=house.now)) for name in NAMES]
    house.now += timedelta(hours=1)
    house.see(_columns(*tomorrow))
    assert house.closed == [TODAY]
    assert house.states["day"].tolist() == [TODAY + 1, TODAY + 1]
    assert house.states["today"][:, 0].tolist() == [5, 5]
    assert sketch.daily(house.of("app"))[0, 0, -2:].round().tolist() == [len(own_today) + 5, 5]


def test_a_clock_that_goes_back_takes_no_day_back(own_today: Columns) -> None:
    """Live requests that are dated years ago, and a present that is years ago, leave days where they are."""
    house = House()
    house.see(own_today)
    before = sketch.daily(house.of("app"))
    house.now -= timedelta(days=400)
    rng = random.Random(8)
    rows = histories.chat_app(rng, "app", histories.live(rng, 3, start=house.now))
    house.see(_columns([row | {"origin": "live"} for row in rows]))
    assert house.of("app")["day"][0] == TODAY
    assert house.of("app")["total"][0] == len(own_today) + 3
    np.testing.assert_allclose(sketch.daily(house.of("app")), before, rtol=1e-3)


def test_a_day_that_lies_ahead_is_said_once(own_today: Columns, caplog: pytest.LogCaptureFixture) -> None:
    """A machine whose own clock ran ahead: the remedy is named, as nothing else would."""
    house = House(FAR + timedelta(days=2))
    rng = random.Random(9)
    house.see(_columns(histories.chat_app(rng, "app", histories.live(rng, 3, start=FAR))))
    house.now = histories.LIVE + timedelta(hours=1)
    house.see(own_today)
    house.see(own_today)
    (said,) = caplog.records
    assert "27000 days ahead" in said.getMessage()
    assert "detector/state" in said.getMessage()


def test_a_simulated_month_may_lie_ahead(past: Columns) -> None:
    """Where nothing is live, the data say what day it is: a month that is simulated for later keeps its days."""
    house = House(histories.START - timedelta(days=100))
    house.see(past)
    assert house.closed == list(range(int(histories.START.timestamp() // DAY_S), int(past.time[-1] // DAY_S)))


def test_times_before_the_epoch_or_beyond_its_seconds_are_taken() -> None:
    """An imported time of another century is odd and breaks nothing."""
    house = House()
    times = [datetime(1901, 1, 1, tzinfo=histories.START.tzinfo), datetime(2400, 1, 1, tzinfo=histories.START.tzinfo)]
    for time in times:
        made = histories.record("app", 0, time, [histories.user("What is moss?")], 5)
        house.see(_columns([made | {"origin": "imported"}]))
    assert house.of("app")["total"][0] == 2
