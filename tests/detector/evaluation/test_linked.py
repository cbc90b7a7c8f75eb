"""Sets are found as the service finds them, scored by what was not judged, and speak for their members."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from detector import columns, sketch
from detector.evaluation.learnt import Fits, LearntDetector
from detector.evaluation.linked import LINKED_AT, NO_SET, FoundSets, LinkReader, SetFits, find_sets
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.profiles import Cell
from detector.evaluation.reading import Reading, _readings
from detector.evaluation.simulation import START, simulate
from detector.evaluation.traces import DAYS
from detector.links.linker import AccountLinks
from detector.links.profile import Registered
from gateway.ledger import fingerprint, traffic


@pytest.fixture(scope="module")
def plans(world: World) -> list[Plan]:
    """Return some ordinary accounts and three campaigns of twenty accounts."""
    attacks = [replace(each, cells=(Cell(20, 1_000),)) for each in world.attacks if each.code in ("A1", "A9", "A13")]
    found = World(world.corpora, world.clients, world.benign, attacks).plan(Size(60, 1, 1_000), 3)
    return [replace(plan, requests=min(plan.requests, 120), beside=()) for plan in found]


@pytest.fixture(scope="module")
def read(world: World, plans: list[Plan]) -> tuple[columns.Columns, list[Reading]]:
    """Return the month's requests, and the accounts as the evaluation reads them."""
    histories = [simulate(plan, world) for plan in plans]
    records = [record for one in histories for record in one.records]
    rows = columns.read(traffic.to_table(fingerprint.complete_all(records)))
    return rows, _readings(plans, rows, [one.harvest for one in histories], [LearntDetector(Fits()), LinkReader()])


@pytest.fixture(scope="module")
def found(read: tuple[columns.Columns, list[Reading]]) -> FoundSets:
    """Return the sets of the month."""
    return find_sets(read[1])


def test_sets_are_those_that_the_service_finds(
    plans: list[Plan], read: tuple[columns.Columns, list[Reading]], found: FoundSets
) -> None:
    """At the end of the month the linker, which saw every request as it came, names the very same accounts."""
    rows, _ = read
    known = {
        plan.account: Registered(START - timedelta(days=plan.created_days_before), plan.payment, plan.signup_network)
        for plan in plans
    }
    linker, states = AccountLinks(lambda: known), sketch.empty(len(plans))
    names = {plan.account: place for place, plan in enumerate(plans)}
    places = np.array([names[name] for name in rows.names])[rows.account]
    for day in np.unique(rows.time // sketch.DAY_S).astype(int).tolist():
        part = np.flatnonzero(rows.time // sketch.DAY_S == day)
        linker.see(rows.take(part), places[part])
        sketch.update(states, rows.take(part), places[part], day)
    expected = {tuple(sorted(each.members.tolist())) for each in linker.sets(states, day)}
    last = np.flatnonzero(found.day == len(LINKED_AT) - 1)
    assert expected
    assert {tuple(sorted(found.members[number].tolist())) for number in last} == expected


def test_a_set_speaks_from_the_day_it_is_found(read: tuple[columns.Columns, list[Reading]], found: FoundSets) -> None:
    """Before it an account is in none; from then on in the newest."""
    fits = SetFits(found, read[1])
    membership = fits.membership(read[1])
    assert membership.shape == (len(read[1]), DAYS)
    number = int(np.flatnonzero(found.day == 6)[0])
    inside = found.members[number]
    assert (membership[inside, LINKED_AT[6] - 1 : LINKED_AT[7] - 1] == number).all()
    early = np.unique(
        np.concatenate([m for d, m in zip(found.day, found.members, strict=True) if d == 0] or [inside[:0]])
    )
    others = np.setdiff1d(np.arange(len(read[1])), early)
    assert (membership[others, : LINKED_AT[1] - 1] == NO_SET).all()


def test_a_fold_learns_nothing_from_sets_of_accounts_that_it_judges(
    read: tuple[columns.Columns, list[Reading]], found: FoundSets
) -> None:
    """What is said of the judged stays the same when their truth is turned round."""
    readings, days = read[1], np.ones(DAYS, bool)
    learnt = [reading for reading in readings if reading.plan.code != "A13"]
    kind = np.array([reading.plan.code for reading in readings])
    judged = np.array([(kind[rows] == "A13").mean() > 0.5 for rows in found.members])
    turned = replace(found, harvests=np.where(judged, ~found.harvests, found.harvests))
    one, other = (SetFits(each, readings).excess(learnt, days) for each in (found, turned))
    assert judged.any()
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, other)


def test_members_are_flagged_with_their_set(read: tuple[columns.Columns, list[Reading]], found: FoundSets) -> None:
    """A member that gave no cause itself has its alert at the end of the day on which its set gives one."""
    readings = read[1]
    fits, days = Fits(), np.ones(DAYS, bool)
    fits.linked = SetFits(found, readings)
    alone, together = LearntDetector(fits, "detector, sets off", "sets"), LearntDetector(fits)
    for detector in (alone, together):
        detector.fit(readings, days)
    own, with_sets = alone.alerts(readings), together.alerts(readings)
    assert (with_sets[own >= 0] >= 0).all()
    assert (together.scores(readings) >= alone.scores(readings)).all()
    said = fits.linked.said(readings, days)
    silent = np.flatnonzero((own < 0) & (with_sets >= 0))
    assert len(silent)
    for row in silent.tolist():
        day = int((said[readings[row].plan.account] >= 0).argmax())
        assert with_sets[row] == (readings[row].days <= day).sum()
