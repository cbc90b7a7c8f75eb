"""Limits of accounts, keys and models: how they are set, ended and read."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger import accounts, audit, control, keys, limits
from gateway.ledger.database import Database
from gateway.ledger.errors import InvalidValue, LedgerError, NotFound


def make_key(database: Database, requests_per_minute: int | None = None) -> keys.Key:
    """Make an account and a key of it."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
        return keys.create(connection, b"s" * 32, "acme", "test", requests_per_minute)[0]


def assign(database: Database, subject: limits.Subject, name: str, **change: Any) -> limits.Limit:
    """Change limits in a transaction of its own."""
    with database.write() as connection:
        return limits.assign(connection, subject, name, change, "olga", ["teacher"])


def test_what_is_not_named_stays(database: Database) -> None:
    """A change touches the quantities it names; None ends one, and a subject without any has no row; all is audited."""
    make_key(database)
    assign(database, "account", "acme", rpm=60, usd_day=5)
    assert assign(database, "account", "acme", rpm=None, tpm=7).values()["usd_day"] == 5
    with database.read() as connection:
        (found,) = limits.every(connection)
        assert (found.rpm, found.tpm, found.usd_day) == (None, 7, 5)
        newest = audit.recent(connection, subject="account:acme")[0]
    assert (newest.actor, newest.action) == ("olga", "limits.set")
    assert newest.changes == [("rpm", 60, None), ("tpm", None, 7)]
    assign(database, "account", "acme", tpm=None, usd_day=None)
    with database.read() as connection:
        assert limits.every(connection) == []


def test_clearing_ends_all(database: Database) -> None:
    """Every limit of the subject goes, with an audit row; a subject without limits is an error that says so."""
    assign(database, "model", "teacher", rpm=60, tpm=7)
    with database.write() as connection:
        limits.clear(connection, "model", "teacher", "olga")
    with database.read() as connection:
        assert limits.every(connection) == []
        newest = audit.recent(connection)[0]
        assert (newest.action, newest.before, newest.after) == ("limits.clear", {"rpm": 60, "tpm": 7}, None)
    with pytest.raises(NotFound, match="limits list"), database.write() as connection:
        limits.clear(connection, "model", "teacher", "olga")


@pytest.mark.parametrize(
    ("subject", "name", "change", "error"),
    [
        ("account", "nobody", {"rpm": 1}, NotFound),
        ("key", "nothing", {"rpm": 1}, NotFound),
        ("model", "unknown", {"rpm": 1}, NotFound),
        ("model", "student@1", {"rpm": 1}, NotFound),
        ("model", "teacher", {"rpm": 0}, InvalidValue),
        ("model", "teacher", {"tpm": limits.MOST + 1}, InvalidValue),
        ("model", "teacher", {"usd_day": limits.MOST_MONEY + 1}, InvalidValue),
        ("model", "teacher", {"lane": "fast"}, InvalidValue),
        ("model", "teacher", {"speed": 1}, InvalidValue),
    ],
)
def test_what_no_limit_can_be(
    database: Database, subject: limits.Subject, name: str, change: dict[str, Any], error: type[LedgerError]
) -> None:
    """Unknown subjects and impossible values are refused, and nothing is written."""
    with pytest.raises(error):
        assign(database, subject, name, **change)
    assert database.revision() == 0


def test_the_control_state_has_them_with_the_keys_own(database: Database) -> None:
    """What a key was made with is a limit of the key; where both are set the smaller binds."""
    key = make_key(database, requests_per_minute=30)
    assert control.load(database).limits == {("key", key.id): limits.Limit("key", key.id, rpm=30)}
    assign(database, "key", key.id, rpm=60, parallel=2)
    found = control.load(database).limits["key", key.id]
    assert (found.rpm, found.parallel) == (30, 2)
    assign(database, "key", key.id, rpm=20)
    assert control.load(database).limits["key", key.id].rpm == 20
