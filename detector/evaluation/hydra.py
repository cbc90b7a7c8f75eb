"""Campaigns of many accounts: how much is found by which day, how pure the linked sets are, what leaked until then.

A contender that links accounts says, for every account and day, which set the account is in; alerts are those of
`operating.HeldOut`, a member's own or its set's. One that links nobody is measured by its alerts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from detector.evaluation.figures import Figure, Floats, interval
from detector.evaluation.measuring import Table
from detector.evaluation.operating import HYDRA_MEMBERS, HYDRA_RATE
from detector.evaluation.reading import Reading
from detector.evaluation.simulation import START_S
from detector.evaluation.traces import DAYS
from detector.sketch import DAY_S

NONE = -1  # no alert, or no set
SHOWN_DAYS = (1, 2, 3, 5, 7, 10, 14, 21)
LEAST_PURE = 0.5  # share of a set's accounts that belong to campaigns; below it a flagged set is a false one
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ByDay:
    """So many days after a campaign's first harvesting request: means over campaigns.

    `found`: members with an alert; `leaked`: answers collected before the collector's alert, of all that the campaign
    ever collected; `purity`: accounts that belong to the campaign, of those in the sets that its alerts named.
    """

    found: Figure
    leaked: Figure
    purity: Figure


@dataclass(frozen=True)
class Hydras:
    """Large campaigns (at least `HYDRA_MEMBERS` accounts at `HYDRA_RATE` requests a day each), and false sets."""

    by_day: dict[int, ByDay]
    campaigns: int
    flagged_sets: int
    false_sets: Figure  # in the month


@runtime_checkable
class Linking(Protocol):
    """A contender that links accounts."""

    def sets(self, readings: Sequence[Reading]) -> Integers:
        """Return the set that each account is in at the end of each day, shape (accounts, 28), -1: none."""
        ...


def sets_of(contender: object, readings: Sequence[Reading]) -> Integers:
    """Return a contender's sets; none from one that links nobody."""
    return contender.sets(readings) if isinstance(contender, Linking) else no_sets(len(readings))


def no_sets(accounts: int) -> Integers:
    """Return what a contender says that links nobody, shape (accounts, 28)."""
    return np.full((accounts, DAYS), NONE)


def hydras(table: Table, alert: Integers, sets: Integers, days: Sequence[int] = SHOWN_DAYS) -> Hydras:
    """Measure the large campaigns.

    `alert`: requests that had passed at each account's first alert, shape (accounts,), -1: none. `sets`: the set that
    each account is in at the end of each day, shape (accounts, 28), -1: none.
    """
    moments = _moments(table, alert)
    campaigns = [rows for rows in _campaigns(table) if _is_large(table, rows)]
    by_day = {day: _by_day(table, campaigns, moments, sets, day) for day in days}
    flagged = _flagged(table, moments, sets)
    false = [rows for rows in flagged if table.attack[rows].mean() < LEAST_PURE]
    # Of a contender that links nobody nothing was measured, which is not the same as none.
    counted = _counted(table, false) if (sets != NONE).any() else Figure(np.nan, np.nan, np.nan)
    return Hydras(by_day, len(campaigns), len(flagged), counted)


def _moments(table: Table, alert: Integers) -> Floats:
    """Return when each account's first alert came, seconds since the epoch; infinite without one."""
    found = np.full(len(alert), np.inf)
    for row in np.flatnonzero(alert > 0):
        times = table.readings[row].times
        found[row] = times[min(int(alert[row]), len(times)) - 1]
    return found


def _campaigns(table: Table) -> list[Integers]:
    groups = sorted(set(table.group[table.attack].tolist()))
    return [np.flatnonzero(table.group == group) for group in groups]


def _is_large(table: Table, rows: Integers) -> bool:
    rates = [len(table.readings[row].times) / max(1, len(np.unique(table.readings[row].days))) for row in rows]
    return len(rows) >= HYDRA_MEMBERS and float(np.median(rates)) >= HYDRA_RATE


def _by_day(table: Table, campaigns: Sequence[Integers], moments: Floats, sets: Integers, day: int) -> ByDay:
    rows = [_one(table, members, moments, sets, day) for members in campaigns]
    firsts = [int(members[0]) for members in campaigns]
    found, leaked, purity = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return ByDay(*(_mean(table, firsts, values) for values in (found, leaked, purity)))


def _one(table: Table, rows: Integers, moments: Floats, sets: Integers, day: int) -> tuple[float, float, float]:
    readings = [table.readings[row] for row in rows]
    collected = [reading.times[reading.harvest] for reading in readings]
    begin = min((times[0] for times in collected if len(times)), default=np.inf)
    until = begin + day * DAY_S
    found = np.isfinite(moments[rows]) & (moments[rows] <= until)
    total = sum(map(len, collected))
    leaked = sum(
        int((times <= min(until, moment)).sum())
        for times, moment in zip(collected, moments[rows].tolist(), strict=True)
    )
    return float(found.mean()), leaked / max(1, total), _purity(table, rows[found], rows, sets, until)


def _purity(table: Table, alerted: Integers, members: Integers, sets: Integers, until: float) -> float:
    # The sets as they stood on that day; the month's last day where it lies beyond.
    day = min(DAYS - 1, int((until - START_S) // DAY_S)) if np.isfinite(until) else DAYS - 1
    named = set(sets[alerted, day].tolist()) - {NONE}
    together = np.isin(sets[:, day], list(named))
    return float(np.isin(np.flatnonzero(together), members).mean()) if named else float("nan")


def _flagged(table: Table, moments: Floats, sets: Integers) -> list[Integers]:
    """Return the accounts of each set that an alert named, as the set stood on its last day."""
    last: dict[int, int] = {}
    for day in range(DAYS):
        last |= dict.fromkeys(set(sets[:, day].tolist()) - {NONE}, day)
    members = {name: np.flatnonzero(sets[:, day] == name) for name, day in sorted(last.items())}
    return [rows for rows in members.values() if np.isfinite(moments[rows]).any()]


def _mean(table: Table, firsts: Sequence[int], values: Floats) -> Figure:
    known = ~np.isnan(values)
    drawn = []
    for counts in table.resampling.counts:
        weights = counts[table.resampling.of_row[list(firsts)]] * known if len(firsts) else np.zeros(0)
        total = weights.sum()
        drawn.append(float((weights * np.where(known, values, 0)).sum() / total) if total > 0 else float("nan"))
    return interval(np.array(drawn))


def _counted(table: Table, sets: Sequence[Integers]) -> Figure:
    """Return how many sets there are; one counts in a draw as often as its accounts do on average."""
    resampling = table.resampling
    drawn = [sum(float(counts[resampling.of_row[rows]].mean()) for rows in sets) for counts in resampling.counts]
    return interval(np.array(drawn, dtype=np.float64))
