"""Linked sets of a simulated month, found once for all folds; what scores them is fitted anew in each.

Accounts are linked at the ends of some days with the likelihoods that ship, which know what pairs of one campaign have
in common but not what campaigns ask for. Sets are scored by trees that have seen only sets of accounts learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector import sketch
from detector.columns import Columns
from detector.evaluation.reading import Floats, Reading
from detector.evaluation.simulation import START, START_S
from detector.evaluation.traces import DAYS
from detector.links import profile
from detector.links.describing import COLUMNS, describe
from detector.links.likelihood import shipped
from detector.links.profile import Links, Places, Registered
from detector.links.scoring import SetScorer
from detector.links.sets import LEAST_REQUESTS, link
from detector.sketch import DAY_S, States

LINKED_AT = (1, 2, 3, 5, 7, 10, 14, 21, 28)  # days at whose ends accounts are linked; the service does it all the time
HARVESTED = 3  # requests before which a member has shown nothing of its campaign
IN_FOLD: dict[str, Any] = {"trees": 24, "rate": 0.2, "boosters": 1}  # a fold's fit; there are fifty of them
NO_SET = -1
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Traces:
    """An account at the ends of `LINKED_AT`: states and link profiles, shape (days,)."""

    states: States
    links: Links


class LinkReader:
    """Keeps what sets are made of."""

    name = "links"

    def read(self, rows: Columns, places: Places, truth: Sequence[Bools]) -> list[Traces]:
        """Follow the accounts through the month."""
        states, links = sketch.empty(len(truth)), profile.empty(len(truth))
        first = int(START_S // DAY_S)
        day = np.clip((rows.time // DAY_S).astype(np.int64) - first, 0, DAYS - 1)
        kept: list[tuple[States, Links]] = []
        for number in range(DAYS):
            part = np.flatnonzero(day == number)
            sketch.update(states, rows.take(part), places[part], first + number)
            profile.update(links, rows.take(part), places[part])
            if number + 1 in LINKED_AT:
                kept.append((states.copy(), links.copy()))
        return [
            Traces(np.stack([s[place] for s, _ in kept]), np.stack([p[place] for _, p in kept]))
            for place in range(len(truth))
        ]


@dataclass(frozen=True)
class FoundSets:
    """Every set found: its day (an index into `LINKED_AT`), its members (rows of the readings), what it looks like.

    `harvests`: most of its members had harvested; `mixed`: it has members of campaigns that had not, and stands for
    neither kind. `group` and `kind` are those of most of its members. All of shape (sets,) but `members` and `frame`.
    """

    day: npt.NDArray[np.int64]
    members: list[Places]
    frame: pd.DataFrame
    harvests: Bools
    mixed: Bools
    group: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]


def find_sets(readings: Sequence[Reading]) -> FoundSets:
    """Link the accounts of a month."""
    group = np.array([reading.plan.group for reading in readings])
    kind = np.array([reading.plan.code for reading in readings])
    attack = np.array([reading.plan.is_attack for reading in readings])
    collected = np.array([reading.harvested() for reading in readings]).reshape(-1, DAYS)
    day_of, members, frames = [], [], []
    for place in range(len(LINKED_AT)):
        found, frame = _linked(readings, place)
        day_of += [place] * len(found)
        members += found
        frames.append(frame)
    shown = [
        (collected[rows, : LINKED_AT[day]].sum(axis=1) >= HARVESTED) for rows, day in zip(members, day_of, strict=True)
    ]
    harvests = np.array([each.mean() > 0.5 for each in shown], dtype=bool)
    return FoundSets(
        day=np.array(day_of, dtype=np.int64),
        members=members,
        frame=pd.concat(frames, ignore_index=True),
        harvests=harvests,
        mixed=np.array([attack[rows].any() for rows in members], dtype=bool) & ~harvests,
        group=np.array([_commonest(group[rows]) for rows in members], dtype=np.str_),
        kind=np.array([_commonest(kind[rows]) for rows in members], dtype=np.str_),
    )


def _linked(readings: Sequence[Reading], place: int) -> tuple[list[Places], pd.DataFrame]:
    traces: list[Traces] = [reading.kept[LinkReader.name] for reading in readings]
    states = np.stack([each.states[place] for each in traces])
    links = np.stack([each.links[place] for each in traces])
    names = {reading.plan.account: row for row, reading in enumerate(readings)}
    profile.register(links, names, {reading.plan.account: _registered(reading) for reading in readings})
    rows = np.flatnonzero(states["total"] >= LEAST_REQUESTS)
    if len(rows) < 2:
        return [], pd.DataFrame(np.zeros((0, len(COLUMNS))), columns=list(COLUMNS))
    found = link(states[rows], links[rows])
    return [rows[members] for members in found.sets], describe(found.sets, found.states, found.comparison, shipped())


def _registered(reading: Reading) -> Registered:
    plan = reading.plan
    return Registered(START - timedelta(days=plan.created_days_before), plan.payment, plan.signup_network)


class SetFits:
    """What one fold's scorer says of the sets, in log-odds beyond those of an alert, shape (sets,)."""

    def __init__(self, found: FoundSets, readings: Sequence[Reading]) -> None:
        self.found = found
        self._row = {reading.plan.account: row for row, reading in enumerate(readings)}

    def excess(self, learnt: Sequence[Reading], days: Bools) -> Floats:
        """Fit on the sets most of whose members are learnt from, on these days; of those, say what trees unseen say."""
        known = np.zeros(len(self._row), bool)
        known[[self._row[reading.plan.account] for reading in learnt]] = True
        found = self.found
        inside = np.array([known[rows].mean() > 0.5 for rows in found.members], dtype=bool)
        inside &= days[np.array(LINKED_AT)[found.day] - 1]
        chosen = np.flatnonzero(inside & ~found.mixed)
        truth = found.harvests[chosen]
        if len(np.unique(truth)) < 2:
            return np.full(len(found.day), -np.inf)
        # Sets of one strategy stay in one fold of the calibration, and so do those of one ordinary group.
        names = np.where(truth, found.kind[chosen], found.group[chosen])
        _, place, count = np.unique(found.group[chosen], return_inverse=True, return_counts=True)
        scorer = SetScorer(**IN_FOLD).fit(found.frame.iloc[chosen], truth, 1.0 / count[place], names)
        said = scorer.excess(found.frame)
        said[chosen] = scorer.unseen_excess_
        return said

    def said(self, learnt: Sequence[Reading], days: Bools) -> dict[str, Floats]:
        """Return what the newest set of each account says at the end of each day, -inf without one, shape (28,)."""
        by_day = self._spread(self.excess(learnt, days), -np.inf)
        return {account: by_day[row] for account, row in self._row.items()}

    def membership(self, readings: Sequence[Reading]) -> npt.NDArray[np.int64]:
        """Return the newest set of each account at the end of each day, shape (accounts, 28), `NO_SET`: none."""
        which = self._spread(np.arange(len(self.found.day)), NO_SET)
        return np.asarray(which[[self._row[reading.plan.account] for reading in readings]], dtype=np.int64)

    def _spread(self, values: npt.NDArray[Any], otherwise: float) -> npt.NDArray[Any]:
        found = np.full((len(self._row), DAYS), otherwise)
        ends = [*LINKED_AT[1:], DAYS + 1]
        for value, day, rows in zip(values.tolist(), self.found.day.tolist(), self.found.members, strict=True):
            found[rows, LINKED_AT[day] - 1 : ends[day] - 1] = value
        return found


def _commonest(names: npt.NDArray[np.str_]) -> str:
    known, counts = np.unique(names, return_counts=True)
    return str(known[counts.argmax()])
