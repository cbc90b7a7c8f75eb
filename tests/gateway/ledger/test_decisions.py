"""Decisions of people: alerts, enforcement, snapshots and their approval, and what the request path sees of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import argon2
import pytest
import sqlalchemy as sa

from gateway.ledger import (
    accounts,
    alerts,
    approvals,
    audit,
    control,
    enforcement,
    keys,
    operators,
    registry,
    snapshots,
)
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, to_rfc3339
from tests.conftest import REAL_HASHER
from tests.control_plane import impose
from tests.gateway.ledger.test_registry import student

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """A write transaction with the accounts `app` and `other`."""
    with database.write() as connection:
        for name in ("app", "other"):
            accounts.create(connection, accounts.new(name), "tester")
        yield connection


def _raise(connection: sa.Connection, account: str = "app", severity: alerts.Severity = "medium") -> alerts.Alert:
    return alerts.raise_or_update(connection, account, severity, 0.8, [{"feature": "f"}], {"requests": 3})[0]


def test_an_account_has_one_open_alert(connection: sa.Connection) -> None:
    """What comes later brings it up to date; its severity never falls."""
    first, new = alerts.raise_or_update(connection, "app", "high", 0.9, [], {"requests": 1})
    second, newer = alerts.raise_or_update(connection, "app", "low", 0.4, [{"feature": "g"}], {"requests": 2})
    assert (new, newer) == (True, False)
    assert (second.id, second.severity, second.score, second.evidence) == (first.id, "high", 0.4, {"requests": 2})
    assert alerts.every(connection) == [second]
    assert alerts.get(connection, first.id) == second


def test_a_decision_closes_an_alert_and_the_next_is_a_new_one(connection: sa.Connection) -> None:
    """Decided once, with who and why; a later suspicion opens another."""
    alert = _raise(connection)
    decided = alerts.decide(connection, alert.id, "dismiss", "ann", "a nightly job")
    assert (decided.state, decided.decision, decided.operator, decided.note) == (
        "dismissed",
        "dismiss",
        "ann",
        "a nightly job",
    )
    with pytest.raises(Forbidden, match="decided already"):
        alerts.decide(connection, alert.id, "suspend", "bob", "too late")
    assert _raise(connection).id != alert.id
    assert [row.state for row in alerts.every(connection, account="app")] == ["open", "dismissed"]


@pytest.mark.parametrize("note", ["", "  \n"])
def test_a_decision_needs_a_note(connection: sa.Connection, note: str) -> None:
    """An audit will read it; without one nothing is decided."""
    alert = _raise(connection)
    with pytest.raises(InvalidValue, match="needs a note"):
        alerts.decide(connection, alert.id, "suspend", "ann", note)
    assert alerts.get(connection, alert.id).state == "open"
    assert enforcement.in_force(connection) == {}


def test_suspending_by_an_alert_puts_the_measure_in_force(connection: sa.Connection) -> None:
    """Alert, measure and audit rows are one transaction, each naming the other."""
    alert = _raise(connection)
    alerts.decide(connection, alert.id, "suspend", "ann", "harvest", timedelta(hours=1))
    measure = enforcement.in_force(connection)["app"]
    assert (measure.action, measure.alert, measure.until - measure.created) == ("suspend", alert.id, timedelta(hours=1))
    assert alerts.get(connection, alert.id).state == "confirmed"
    rows = {row.action: row for row in audit.recent(connection, subject="app")}
    assert rows["alert.suspend"].changes == [("state", "open", "confirmed")]
    until = to_rfc3339(measure.until)
    assert rows["enforce.suspend"].changes == [("action", None, "suspend"), ("until", None, until)]
    assert {row.reason for row in rows.values() if row.actor == "ann"} == {"harvest"}
    assert enforcement.clear(connection, "app", "bob", "study plan") == 1
    newest = audit.recent(connection, subject="app")[0]
    assert (newest.action, newest.before, newest.after) == ("enforce.clear", rows["enforce.suspend"].after, None)


def test_a_diversion_needs_a_promoted_student(connection: sa.Connection) -> None:
    """There must be something to divert to; the alert stays open meanwhile."""
    alert = _raise(connection)
    with pytest.raises(Forbidden, match=r"promote one .* or suspend"):
        alerts.decide(connection, alert.id, "divert", "ann", "harvest")
    assert alerts.get(connection, alert.id).state == "open"
    registry.add(connection, student("labels", state="candidate"), "tester")
    registry.promote(connection, "labels@1", "ann")
    alerts.decide(connection, alert.id, "divert", "ann", "harvest")
    assert enforcement.in_force(connection)["app"].action == "divert"


def test_an_unknown_alert_names_the_command_that_lists_them(connection: sa.Connection) -> None:
    """The error says where to look."""
    with pytest.raises(NotFound, match="alerts list"):
        alerts.get(connection, "none")


def test_open_and_confirmed_alerts_bar_training(connection: sa.Connection) -> None:
    """A dismissal restores the account's rows."""
    alert = _raise(connection)
    _raise(connection, "other")
    assert alerts.barred_accounts(connection) == {"app", "other"}
    alerts.decide(connection, alert.id, "dismiss", "ann", "fine")
    assert alerts.barred_accounts(connection) == {"other"}


def test_measures_replace_each_other_and_end(connection: sa.Connection) -> None:
    """One measure at a time; it ends by itself or by a person, and its history stays."""
    impose(connection, "app", "suspend", "ann", "first")
    second = impose(connection, "app", "suspend", "ann", "second", timedelta(seconds=0.3))
    assert enforcement.in_force(connection) == {"app": second}
    time.sleep(max(0.0, (second.until - now()).total_seconds()) + 0.01)
    assert enforcement.in_force(connection) == {}
    assert enforcement.clear(connection, "app", "ann", "nothing to clear") == 0
    impose(connection, "app", "suspend", "ann", "third")
    assert enforcement.clear(connection, "app", "bob", "settled") == 1
    assert enforcement.in_force(connection) == {}
    assert [row.note for row in enforcement.history(connection, "app")] == ["third", "second", "first"]
    with pytest.raises(NotFound):
        impose(connection, "nobody", "suspend", "ann", "x")
    with pytest.raises(NotFound):
        enforcement.clear(connection, "nobody", "ann", "x")


def _propose(connection: sa.Connection) -> snapshots.Snapshot:
    return snapshots.propose(
        connection, snapshots.new(DIGEST, "labels", "chat.completions", "5e", "/s", "ann", {"n": 1})
    )


def test_a_snapshot_is_proposed_once(connection: sa.Connection) -> None:
    """The same bytes twice are the same proposal; it is found by the beginning of its hash."""
    snapshot = _propose(connection)
    assert _propose(connection) == snapshot
    assert snapshots.get(connection, DIGEST[:8]) == snapshot
    assert snapshots.every(connection) == [(snapshot, None)]
    for digest in (DIGEST[:7], "%", "", "f" * 64):
        with pytest.raises(NotFound, match="distill list"):
            snapshots.get(connection, digest)


def test_who_asks_can_not_approve(connection: sa.Connection) -> None:
    """A second person says yes, once; the first yes stands."""
    _propose(connection)
    with pytest.raises(Forbidden, match="somebody else"):
        snapshots.approve(connection, DIGEST, "ann")
    first = snapshots.approve(connection, DIGEST[:10], "bob", "looked at it")
    assert snapshots.approve(connection, DIGEST, "eve", "me too") == first
    assert (first.snapshot, first.approver, first.requested_by) == (DIGEST, "bob", "ann")
    assert approvals.of(connection, DIGEST) == [first]
    assert snapshots.every(connection)[0][1] == first
    assert [row.action for row in audit.recent(connection, subject=DIGEST)] == ["snapshot.approve", "snapshot.propose"]


def test_operators_log_in_by_password_or_token(connection: sa.Connection) -> None:
    """Neither is stored; a wrong one is nobody."""
    operator, token = operators.create(connection, "ann", "correct horse", "tester")
    assert operators.by_token(connection, token) == operator
    assert operators.by_token(connection, token + "x") is None
    assert operators.by_password(connection, "ann", "correct horse") == operator
    assert operators.by_password(connection, "ann", "wrong") is None
    assert operators.by_password(connection, "nobody", "correct horse") is None
    assert "correct horse" not in str(operator)
    assert token not in str(operator)
    assert operators.every(connection) == [operator]
    with pytest.raises(AlreadyExists, match="another name"):
        operators.create(connection, "ann", "x", "tester")


def test_a_stored_password_is_costly_to_guess(connection: sa.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guess takes what RFC 9106 recommends where memory is scarce: 64 MiB, three passes."""
    monkeypatch.setattr(operators, "HASHER", REAL_HASHER)
    operator, _token = operators.create(connection, "ann", "correct horse", "tester")
    assert operator.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_the_time_of_a_login_does_not_tell_who_exists(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown name costs about as much as a wrong password."""
    monkeypatch.setattr(operators, "HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=16 * 1024, parallelism=1))
    operators.create(connection, "ann", "correct horse", "tester")

    def seconds(name: str) -> float:
        begin = time.process_time()
        operators.by_password(connection, name, "wrong")
        return time.process_time() - begin

    known = min(seconds("ann") for _try in range(2))
    unknown = min(seconds("nobody") for _try in range(2))
    assert 0.6 < unknown / known < 1.6


def test_the_control_state_is_what_requests_need(database: Database) -> None:
    """Living keys by hash, accounts, measures in force and served students, at one revision."""
    secret = bytes(32)
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        kept, _text = keys.create(connection, secret, "app", "tester")
        ended, _text = keys.create(connection, secret, "app", "tester")
        keys.revoke(connection, ended.id, "tester")
        measure = impose(connection, "app", "suspend", "ann", "x")
        for name, state in (
            ("a", "trained"),
            ("b", "candidate"),
            ("c", "refused"),
            ("d", "retired"),
            ("e", "promoted"),
        ):
            registry.add(connection, student(name, state=state), "tester")
    state_seen = control.load(database)
    assert state_seen.revision == database.revision() == 1
    assert state_seen.keys == {kept.hash: kept}
    assert list(state_seen.accounts) == ["app"]
    assert state_seen.enforcement == {"app": measure}
    assert {one.name for one in state_seen.students} == {"a", "b", "e"}
    assert 0 <= time.monotonic() - state_seen.loaded_at < 60
    assert measure.until > now()
