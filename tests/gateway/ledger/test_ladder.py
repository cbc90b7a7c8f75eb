"""Steps against accounts as decisions: on many at once, later, undone, on appeal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gateway.ledger import accounts, alerts, appeals, audit, control, declared_uses, enforcement
from gateway.ledger.database import Database
from gateway.ledger.enforcement import ACTIONS, BOUNDARY, VERIFY_NOTICE, Action, Step, take
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now
from tests.control_plane import impose

SET = ["a", "b", "c"]


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """A write transaction with the accounts `a`, `b` and `c`."""
    with database.write() as connection:
        for name in SET:
            accounts.create(connection, accounts.new(name), "tester")
        yield connection


def in_force(connection: sa.Connection) -> dict[str, Action | None]:
    return {name: measure.at(now()) for name, measure in enforcement.in_force(connection).items()}


def test_a_decision_hits_every_account_and_is_undone_as_one(connection: sa.Connection) -> None:
    """One id, one moment, one end; undoing it brings back what each account was under, to its own end."""
    strip = impose(connection, "b", "strip", "ann", "earlier", timedelta(days=2))
    rows = enforcement.take(connection, SET, Step("suspend"), "ann", "one behind all")
    assert len({(row.decision_id, row.created, row.until) for row in rows}) == 1
    assert in_force(connection) == dict.fromkeys(SET, "suspend")
    undone = enforcement.undo(connection, rows[0].decision_id, "bob", "not one after all")
    assert [row.account for row in undone.ended] == SET
    assert enforcement.in_force(connection) == {"b": strip}
    with pytest.raises(Forbidden, match="nothing to undo"):
        enforcement.undo(connection, rows[0].decision_id, "bob", "again")
    with pytest.raises(NotFound, match="enforce --list"):
        enforcement.undo(connection, "none", "bob", "x")


def test_undoing_leaves_alone_what_was_decided_since(connection: sa.Connection) -> None:
    """A later decision on one of them stands, and what came before it does not come back beside it."""
    impose(connection, "a", "watch", "ann", "first")
    second = enforcement.take(connection, SET, Step("suspend"), "ann", "second")
    third = impose(connection, "a", "strip", "ann", "third")
    enforcement.undo(connection, second[0].decision_id, "bob", "milder")
    assert enforcement.in_force(connection) == {"a": third}
    enforcement.undo(connection, third.decision_id, "bob", "neither")
    assert in_force(connection) == {"a": "suspend"}, "what the third replaced was never undone for `a`"


def test_nothing_is_done_where_one_account_is_unknown(database: Database) -> None:
    """A decision is all of it or nothing: the transaction ends with the error."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("a"), "tester")
    with pytest.raises(NotFound):
        _suspend(database, ["a", "nobody"])
    with database.read() as connection:
        assert enforcement.history(connection) == []


def _suspend(database: Database, names: list[str]) -> None:
    with database.write() as connection:
        enforcement.take(connection, names, Step("suspend"), "ann", "x")


def test_every_account_of_a_decision_is_audited(connection: sa.Connection) -> None:
    """Each row names the decision and how many accounts it hit, none of the others; undoing leaves rows as well."""
    rows = enforcement.take(connection, SET, Step("cap", tokens_per_day=500), "ann", "too much", alert="x")
    enforcement.undo(connection, rows[0].decision_id, "bob", "enough")
    for name in SET:
        undone, taken, _created = audit.recent(connection, subject=name)
        assert (taken.action, taken.actor, taken.reason) == ("enforce.cap", "ann", "too much")
        assert taken.detail == {"decision": rows[0].decision_id, "accounts": 3, "alert": "x"}
        assert taken.after is not None
        assert taken.after["tokens_per_day"] == 500
        assert (undone.action, undone.actor, undone.reason) == ("enforce.undo", "bob", "enough")
        assert undone.before == taken.after
    assert audit.verify(connection).faults == []


def test_a_later_beginning_lets_what_is_in_force_go_on(connection: sa.Connection) -> None:
    """Until the moment the earlier step holds; nothing is in force where nothing was."""
    impose(connection, "a", "strip", "ann", "first")
    step = Step("suspend", timedelta(hours=1), after=timedelta(hours=2))
    first, second = enforcement.take(connection, ["a", "b"], step, "ann", "second")
    assert in_force(connection) == {"a": "strip", "b": None}
    assert first.begins == first.created + timedelta(hours=2)
    assert first.at(first.begins) == "suspend"
    assert first.at(first.begins + timedelta(hours=1)) is None
    assert second.at(first.begins - timedelta(seconds=1)) is None


def test_a_verification_is_announced_a_day_ahead(connection: sa.Connection) -> None:
    """Meanwhile the account is stripped, or under more where it was."""
    enforcement.take(connection, ["b"], Step("cap", tokens_per_day=70), "ann", "before")
    rows = enforcement.take(connection, ["a", "b"], Step("verify"), "ann", "what is it?")
    assert in_force(connection) == {"a": "strip", "b": "cap"}
    assert {row.begins and row.begins - row.created for row in rows} == {VERIFY_NOTICE}
    assert rows[1].tokens_at(now()) == 70
    assert {row.at(now() + VERIFY_NOTICE) for row in rows} == {"verify"}


def test_a_spread_beginning_tells_no_request_apart(connection: sa.Connection) -> None:
    """It falls on a quarter of an hour within the spread, not always the same one, and for a whole set on one."""
    step = Step("strip", spread=timedelta(hours=6))
    found = set()
    for _ in range(20):
        rows = enforcement.take(connection, SET, step, "ann", "x")
        (begins,) = {row.begins for row in rows}
        assert begins is not None
        assert begins.timestamp() % BOUNDARY.total_seconds() == 0
        assert timedelta() <= begins - rows[0].created <= timedelta(hours=6) + BOUNDARY
        assert rows[0].until == begins + step.duration
        found.add(begins - rows[0].created)
    assert max(found) - min(found) > timedelta(hours=1)


@pytest.mark.parametrize("step", [Step("cap"), Step("cap", tokens_per_day=0), Step("strip", tokens_per_day=5)])
def test_only_a_cap_has_a_number(connection: sa.Connection, step: Step) -> None:
    """And it must have one."""
    with pytest.raises(InvalidValue, match="tokens"):
        enforcement.take(connection, ["a"], step, "ann", "x")


def test_the_request_path_sees_every_step(database: Database) -> None:
    """The state that workers load has all accounts of a decision, with what they need to act."""
    with database.write() as connection:
        for name in SET:
            accounts.create(connection, accounts.new(name), "tester")
        rows = enforcement.take(connection, SET, Step("cap", tokens_per_day=9), "ann", "x")
    assert control.load(database).enforcement == {row.account: row for row in rows}


def _alert(connection: sa.Connection, **evidence: object) -> alerts.Alert:
    return alerts.raise_or_update(connection, "a", "high", 0.9, [], {"requests": 3, **evidence})[0]


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "divert"])
def test_a_decision_about_a_set_hits_its_members(connection: sa.Connection, action: Action) -> None:
    """An alert's members are hit with its account, as one decision that names the alert."""
    alert = _alert(connection, set="s-1", members=["b", "a", "seen in the lake alone"])
    assert alerts.accounts_of(connection, alerts.of_set(connection, "s-1")) == ["a", "b"]
    tokens = 5 if action == "cap" else None
    alerts.decide(connection, alert.id, action, "ann", "one behind both", tokens_per_day=tokens)
    measures = enforcement.in_force(connection)
    assert sorted(measures) == ["a", "b"]
    assert {(row.action, row.alert) for row in measures.values()} == {(action, alert.id)}
    assert len({row.decision_id for row in measures.values()}) == 1


def test_taking_a_decision_back_opens_the_alert(connection: sa.Connection) -> None:
    """Everything it had put in force ends, and the alert waits again."""
    alert = _alert(connection, members=["b"])
    alerts.decide(connection, alert.id, "suspend", "ann", "harvest")
    opened = alerts.take_back(connection, alert.id, "bob", "the wrong set")
    assert opened == alerts.get(connection, alert.id)
    assert (opened.state, opened.decision, opened.note) == ("open", None, None)
    assert enforcement.in_force(connection) == {}
    with pytest.raises(Forbidden, match="no decision"):
        alerts.take_back(connection, alert.id, "bob", "again")


def test_an_appeal_is_a_note_and_opens_the_alert(connection: sa.Connection) -> None:
    """What is in force stays until somebody decides anew; a dismissal then ends it."""
    alert = _alert(connection)
    alerts.decide(connection, alert.id, "suspend", "ann", "harvest")
    with pytest.raises(InvalidValue, match="needs a note"):
        alerts.appeal(connection, alert.id, "bob", " ")
    assert alerts.appeal(connection, alert.id, "bob", "it is our nightly evaluation").state == "open"
    assert in_force(connection) == {"a": "suspend"}
    assert [(row.operator, row.note) for row in appeals.of_alert(connection, alert.id)] == [
        ("bob", "it is our nightly evaluation")
    ]
    row = audit.recent(connection, subject="a")[0]
    assert (row.action, row.before) == (
        "alert.appeal", {"state": "confirmed", "decision": "suspend", "operator": "ann", "note": "harvest"}
    )  # fmt: skip
    alerts.decide(connection, alert.id, "dismiss", "cleo", "it is")
    assert in_force(connection) == {}


def test_an_appeal_goes_to_the_open_alert(connection: sa.Connection) -> None:
    """An account has one open alert at most; the error says where the appeal belongs."""
    first = _alert(connection)
    alerts.decide(connection, first.id, "dismiss", "ann", "fine")
    second = _alert(connection)
    with pytest.raises(Forbidden, match=second.id):
        alerts.appeal(connection, first.id, "bob", "we object")
    assert alerts.appeal(connection, second.id, "bob", "we object").state == "open"


def test_a_declared_use_answers_a_verification_and_can_be_revoked(connection: sa.Connection) -> None:
    """Granted by somebody, audited; revoked once; only a verification ends by it."""
    impose(connection, "a", "verify", "ann", "what is it?")
    impose(connection, "b", "strip", "ann", "x")
    soon = now() + timedelta(days=1)
    uses = [declared_uses.declare(connection, name, "evaluation", "olga", 500, soon) for name in ("a", "b")]
    assert in_force(connection) == {"b": "strip"}
    assert (uses[0].granted_by, _declared(connection)) == ("olga", {"a", "b"})
    declared_uses.revoke(connection, uses[0].id, "olga", "it ended")
    assert _declared(connection) == {"b"}
    assert audit.recent(connection, subject="a")[0].reason == "it ended"
    with pytest.raises(Forbidden, match="ended already"):
        declared_uses.revoke(connection, uses[0].id, "olga", "again")
    with pytest.raises(NotFound, match="accounts uses"):
        declared_uses.revoke(connection, "none", "olga", "x")
    for use, cap in ((" ", 5), ("x", 0)):
        with pytest.raises(InvalidValue):
            declared_uses.declare(connection, "a", use, "olga", cap, soon)


def _declared(connection: sa.Connection) -> set[str]:
    uses = declared_uses.every(connection)
    return {name for name, found in uses.items() if any(use.holds(now()) for use in found)}


def test_a_cap_that_comes_later_leaves_the_present_one_as_it_is(connection: sa.Connection) -> None:
    """Until it begins, admission reads the number of the cap that goes on."""
    take(connection, ["a"], Step("cap", tokens_per_day=1_000), "ann", "first")
    later = Step("cap", tokens_per_day=500_000, after=timedelta(days=2))
    (row,) = take(connection, ["a"], later, "ann", "more from Wednesday on")
    assert row.begins is not None
    assert (row.at(now()), row.tokens_at(now())) == ("cap", 1_000)
    assert row.tokens_at(row.begins) == 500_000


@pytest.mark.parametrize("minutes", [15, 16, 60, 360])
def test_a_spread_beginning_lies_within_its_spread(minutes: int) -> None:
    """On a quarter of an hour, and no later than was said."""
    step = Step("strip", spread=timedelta(minutes=minutes))
    for second in range(0, 900, 37):
        moment = datetime(2026, 11, 2, 9, 0, tzinfo=UTC) + timedelta(seconds=second)
        begins = step.begins(moment)
        assert moment <= begins <= moment + step.spread
        assert begins.timestamp() % 900 == 0
    with pytest.raises(InvalidValue, match="quarter of an hour at least"):
        Step("strip", spread=timedelta(minutes=14)).check()


def test_a_number_beyond_the_database_is_refused_by_name(database: Database) -> None:
    """Neither a traceback nor a 500: an invalid value."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("c"), "tester")
    with pytest.raises(InvalidValue, match="can't hold a value"), database.write() as connection:
        take(connection, ["c"], Step("cap", tokens_per_day=10**30), "ann", "x")


def test_the_other_members_of_a_set_train_nobody(connection: sa.Connection) -> None:
    """An open or confirmed alert about a linked set bars the rows of all its accounts, a dismissal none."""
    alert, _ = alerts.raise_or_update(connection, "a", "high", 0.9, [], {"set": "s", "members": ["b"]})
    assert alerts.barred_accounts(connection) == {"a", "b"}
    alerts.decide(connection, alert.id, "watch", "ann", "looked at it")
    assert alerts.barred_accounts(connection) == {"a", "b"}
    other, _ = alerts.raise_or_update(connection, "b", "high", 0.9, [], {})
    alerts.decide(connection, other.id, "dismiss", "ann", "a mistake of ours")
    assert alerts.barred_accounts(connection) == {"a", "b"}
