"""From scores to alerts in a real control plane."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from detector import columns
from detector.alerting import Alerting
from detector.columns import Columns
from detector.watch import Watch
from gateway.ledger import accounts, alerts, enforcement, policies
from gateway.ledger.database import Database
from tests.control_plane import fresh
from tests.detector import histories

NAME = "harvester"


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """Return a control plane that knows the account."""
    opened = fresh(control_url)
    with opened.write() as connection:
        accounts.create(connection, accounts.new(NAME), "test")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def collecting() -> Columns:
    """Return about 800 unrelated requests of one account, over five days."""
    rng = random.Random(5)
    return columns.read(histories.to_table(histories.bulk(rng, NAME, histories.history(rng, 160, 5))))


def part(rows: Columns, begin: int, end: int | None) -> Columns:
    """Return some of the requests."""
    return rows.take(np.arange(len(rows))[begin:end])


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_one_alert_is_opened_and_then_kept_up_to_date(database: Database, collecting: Columns) -> None:
    """A second round updates the open alert instead of opening another, and not more often than it must."""
    clock = Clock()
    alerting, watch = Alerting(database, clock), Watch()
    watch.advance(part(collecting, 0, 450))
    (raised,) = alerting.publish(watch, {NAME})
    watch.advance(part(collecting, 450, 550))
    assert alerting.publish(watch, {NAME}) == []
    assert _only(database).evidence["requests"] == 450
    clock.seconds = 60.0
    assert alerting.publish(watch, {NAME}) == []
    assert _only(database).evidence["requests"] == 550
    assert _only(database).id == raised.id


def test_evidence_is_as_the_ledger_documents_it(database: Database, collecting: Columns) -> None:
    """An alert says what leaked, when it was noticed, what it cost, day by day, and names real requests."""
    watch = Watch()
    watch.advance(collecting)
    (alert,) = Alerting(database).publish(watch, {NAME})
    found = alert.evidence
    crossing = watch.assess(NAME).crossing
    assert crossing is not None
    assert found["requests_before_alert"] == crossing.requests < found["requests"] == len(collecting)
    assert found["live_requests_before_alert"] == 0
    assert found["teacher_tokens"] == int(collecting.output.sum())
    assert found["cost"] == int(collecting.cost.sum())
    assert sum(day["requests"] for day in found["daily"]) == len(collecting)
    assert sum(day["teacher_tokens"] for day in found["daily"]) == pytest.approx(found["teacher_tokens"], rel=0.01)
    assert len(set(found["examples"])) == len(found["examples"]) == 3
    assert set(found["examples"]) <= set(collecting.id)
    assert {"feature", "value", "own_baseline", "peer_median", "text"} == set(alert.reasons[0])


def test_a_dismissed_alert_needs_much_more_before_it_returns(database: Database, collecting: Columns) -> None:
    """The same evidence is not raised twice; half as much again is."""
    alerting, watch = Alerting(database), Watch()
    watch.advance(part(collecting, 0, 400))
    (alert,) = alerting.publish(watch, {NAME})
    with database.write() as connection:
        alerts.decide(connection, alert.id, "dismiss", "op", "a known partner")
    watch.advance(part(collecting, 400, 440))
    assert alerting.publish(watch, {NAME}) == []
    watch.advance(part(collecting, 440, None))
    (again,) = alerting.publish(watch, {NAME})
    assert again.id != alert.id


def test_nothing_is_raised_while_a_measure_is_in_force(database: Database, collecting: Columns) -> None:
    """A suspended account's late records raise no second alert; after the measure has ended they may."""
    alerting, watch = Alerting(database), Watch()
    watch.advance(part(collecting, 0, 400))
    (alert,) = alerting.publish(watch, {NAME})
    with database.write() as connection:
        alerts.decide(connection, alert.id, "suspend", "op", "collects answers")
    watch.advance(part(collecting, 400, None))
    assert alerting.publish(watch, {NAME}) == []
    with database.write() as connection:
        enforcement.clear(connection, NAME, "op", "talked to them")
    assert len(alerting.publish(watch, {NAME})) == 1


@pytest.mark.parametrize("action", enforcement.AUTOMATIC)
def test_an_account_that_is_watched_is_looked_at(
    database: Database, collecting: Columns, action: enforcement.Action
) -> None:
    """What a policy may do settles nothing: much more of the same raises the alert again."""
    alerting, watch = Alerting(database), Watch()
    watch.advance(part(collecting, 0, 400))
    (alert,) = alerting.publish(watch, {NAME})
    with database.write() as connection:
        alerts.decide(connection, alert.id, action, "op", "let us see")
    watch.advance(part(collecting, 400, None))
    assert len(alerting.publish(watch, {NAME})) == 1


def test_a_policy_acts_with_the_alert(database: Database, collecting: Columns) -> None:
    """In one transaction: nobody sees the alert without the step; later figures bring it up to date all the same."""
    with database.write() as connection:
        policies.create(connection, "p", "strip", "op", "collectors", severity="low", spread=timedelta())
        policies.switch(connection, "p", True, "op", "tried")
    revision = database.revision()
    alerting, watch = Alerting(database, clock=iter(range(0, 1000, 100)).__next__), Watch()
    watch.advance(part(collecting, 0, 400))
    (alert,) = alerting.publish(watch, {NAME})
    assert database.revision() == revision + 1
    with database.read() as connection:
        assert enforcement.in_force(connection)[NAME].alert == alert.id
    watch.advance(part(collecting, 400, None))
    assert alerting.publish(watch, {NAME}) == []
    assert _only(database).evidence["requests"] == len(collecting)


def test_a_restart_repeats_no_alert(database: Database, collecting: Columns) -> None:
    """A detector that starts again from the lake finds its alert open and leaves it so."""
    for _ in range(2):
        watch = Watch()
        watch.advance(collecting)
        Alerting(database).publish(watch, {NAME})
    assert _only(database).state == "open"


def test_an_account_that_is_not_registered_is_logged(
    database: Database, collecting: Columns, caplog: pytest.LogCaptureFixture
) -> None:
    """A lake may hold accounts that the control plane doesn't know: the log says which command mends that."""
    watch = Watch()
    watch.advance(dataclasses.replace(collecting, names=("stranger",)))
    assert Alerting(database).publish(watch, {"stranger"}) == []
    assert "spiritsafe accounts import" in caplog.text


def _only(database: Database) -> alerts.Alert:
    with database.read() as connection:
        (alert,) = alerts.every(connection)
    return alert
