"""Policies: switched on by a person, mild, once an alert, and never over what a person decided."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import accounts, alerts, audit, enforcement, policies
from gateway.ledger.database import Database
from gateway.ledger.enforcement import ACTIONS, AUTOMATIC, Action
from gateway.ledger.errors import AlreadyExists, Forbidden, InvalidValue, NotFound
from tests.control_plane import impose

EVIDENCE = {"requests": 3, "leaked_tokens": 5000}


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """A write transaction with the accounts `a` and `b`."""
    with database.write() as connection:
        for name in ("a", "b"):
            accounts.create(connection, accounts.new(name), "tester")
        yield connection


def make(connection: sa.Connection, name: str = "strip-high", action: Action = "strip", **options: Any) -> None:
    """Write a policy down and switch it on."""
    policies.create(connection, name, action, "ann", "collectors", **{"spread": timedelta(), **options})
    policies.switch(connection, name, True, "ann", "tried on two weeks")


def opened(connection: sa.Connection, severity: alerts.Severity = "high", **evidence: object) -> alerts.Alert:
    return alerts.raise_or_update(connection, "a", severity, 0.9, [], {**EVIDENCE, **evidence})[0]


def test_a_policy_acts_when_an_alert_opens(connection: sa.Connection) -> None:
    """In the transaction that writes the alert, in the policy's name, on a whole set; the alert stays open."""
    make(connection)
    alert = opened(connection, members=["b", "not registered"])
    measures = enforcement.in_force(connection)
    assert sorted(measures) == ["a", "b"]
    assert {(row.action, row.policy, row.alert) for row in measures.values()} == {("strip", "strip-high", alert.id)}
    assert alerts.get(connection, alert.id).state == "open"
    row = audit.recent(connection, subject="b")[0]
    assert (row.actor, row.action, row.reason) == (
        "policy:strip-high", "enforce.strip", "policy strip-high: collectors"
    )  # fmt: skip
    assert enforcement.settled(connection) == set(), "the detector goes on looking at them"


@pytest.mark.parametrize("action", [action for action in ACTIONS if action not in AUTOMATIC])
def test_nothing_further_is_ever_automatic(connection: sa.Connection, action: Action) -> None:
    """Not by a policy, nor by a row put into the table by hand, which must not keep alerts from being raised either."""
    with pytest.raises(Forbidden, match="never automatic"):
        policies.create(connection, "harsh", action, "ann", "x")
    make(connection)
    connection.execute(sa.update(policies.table).values(action=action, enabled=True))
    opened(connection)
    with pytest.raises(Forbidden, match="never automatic"):
        enforcement.take(connection, ["a"], enforcement.Step(action), "policy:x", "x", policy="x")
    assert enforcement.in_force(connection) == {}


def test_a_policy_is_switched_off_until_a_person_switches_it_on(connection: sa.Connection) -> None:
    """Both are audited; a policy that is off does nothing."""
    policies.create(connection, "quiet", "watch", "ann", "collectors", spread=timedelta())
    opened(connection)
    assert enforcement.in_force(connection) == {}
    with pytest.raises(InvalidValue, match="needs a note"):
        policies.switch(connection, "quiet", True, "bob", "")
    policies.switch(connection, "quiet", True, "bob", "tried on two weeks")
    with pytest.raises(Forbidden, match="switched on already"):
        policies.switch(connection, "quiet", True, "bob", "again")
    opened(connection)
    assert enforcement.in_force(connection)["a"].action == "watch"
    policies.switch(connection, "quiet", False, "cleo", "too broad")
    found = [(row.action, row.actor) for row in audit.recent(connection, subject="policy:quiet")]
    assert found == [("policy.disable", "cleo"), ("policy.enable", "bob"), ("policy.create", "ann")]


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({}, False),
        ({"severity": "medium"}, True),
        ({"severity": "low", "score": 0.91}, False),
        ({"severity": "low", "score": 0.9, "leaked_tokens": 5000}, True),
        ({"severity": "low", "leaked_tokens": 5001}, False),
    ],
)
def test_an_alert_must_reach_all_that_a_policy_names(
    connection: sa.Connection, condition: dict[str, Any], met: bool
) -> None:
    """Severity, score and leaked tokens are all lower bounds."""
    make(connection, **condition)
    opened(connection, "medium")
    assert (list(enforcement.in_force(connection)) == ["a"]) is met


def test_an_alert_that_rises_is_met_then(connection: sa.Connection) -> None:
    """What did not reach the policy when it opened may do so later."""
    make(connection)
    opened(connection, "low")
    assert enforcement.in_force(connection) == {}
    opened(connection, "high")
    assert list(enforcement.in_force(connection)) == ["a"]


def test_what_a_person_decides_stands(connection: sa.Connection) -> None:
    """A policy comes once an alert, after a person's undoing not again, and never in place of a further step."""
    make(connection)
    opened(connection)
    enforcement.clear(connection, "a", "bob", "let it be")
    opened(connection)
    assert enforcement.in_force(connection) == {}
    impose(connection, "b", "suspend", "bob", "harvest")
    alerts.raise_or_update(connection, "b", "high", 1.0, [], EVIDENCE)
    assert enforcement.in_force(connection)["b"].action == "suspend"


def test_a_dismissal_ends_what_a_policy_did(connection: sa.Connection) -> None:
    """Also where a person went further meanwhile, and an appeal was heard."""
    make(connection)
    alert = opened(connection, members=["b"])
    alerts.decide(connection, alert.id, "suspend", "bob", "harvest")
    alerts.appeal(connection, alert.id, "bob", "it is a nightly job")
    alerts.decide(connection, alert.id, "dismiss", "bob", "it is")
    assert enforcement.in_force(connection) == {}


def test_the_furthest_step_wins(connection: sa.Connection) -> None:
    """Where several policies are met, one acts."""
    make(connection, "watch-all", "watch", severity="low")
    make(connection)
    opened(connection, "low")
    assert enforcement.in_force(connection)["a"].action == "watch"
    opened(connection, "high")
    assert enforcement.in_force(connection)["a"].action == "strip"


@pytest.mark.parametrize(
    "options",
    [{"name": "two words"}, {"note": " "}, {"severity": "huge"}, {"score": 2.0}, {"leaked_tokens": 0},
     {"spread": timedelta(days=8)}],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(connection: sa.Connection, options: dict[str, Any]) -> None:
    """With what to write in place of it."""
    given = {"name": "p", "note": "x"} | options
    with pytest.raises(InvalidValue):
        policies.create(connection, given.pop("name"), "watch", "ann", given.pop("note"), **given)
    policies.create(connection, "p", "watch", "ann", "x")
    with pytest.raises(AlreadyExists):
        policies.create(connection, "p", "watch", "ann", "x")
    with pytest.raises(NotFound, match="policies list"):
        policies.get(connection, "q")
