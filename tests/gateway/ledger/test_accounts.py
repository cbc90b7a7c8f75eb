"""Accounts, their consents and declared uses."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.ledger import accounts, audit, consents, declared_uses
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, InvalidValue, NotFound
from gateway.ledger.identifiers import now


def test_an_account_is_kept_as_it_was_made(database: Database) -> None:
    """All fields come back, and the audit log says who made it."""
    made = accounts.Account("app", now(), "pro", True, "hash", "10.0.0.0/24", {"kind": "x"})
    with database.write() as connection:
        accounts.create(connection, made, "tester")
    with database.read() as connection:
        assert accounts.get(connection, "app") == made
        (row,) = audit.recent(connection, subject="app")
    assert (row.actor, row.action, row.before, row.after) == (
        "tester",
        "account.create",
        None,
        {"tier": "pro", "operator": True},
    )


def test_a_name_is_taken_once(database: Database) -> None:
    """The second account of a name is refused with the remedy."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        with pytest.raises(AlreadyExists, match="choose another name"):
            accounts.create(connection, accounts.new("app"), "tester")


@pytest.mark.parametrize("name", ["", "two words", "tab\t", "x" * 129])
def test_an_unusable_name_is_refused(database: Database, name: str) -> None:
    """Names go on command lines and into URLs."""
    with pytest.raises(InvalidValue, match="128 characters without spaces"), database.write() as connection:
        accounts.create(connection, accounts.new(name), "tester")


def test_an_unknown_account_names_the_command_that_lists_them(database: Database) -> None:
    """The error says where to look."""
    with database.read() as connection:
        assert accounts.find(connection, "nobody") is None
        with pytest.raises(NotFound, match="spiritsafe accounts list"):
            accounts.get(connection, "nobody")


def test_consent_is_in_force_until_withdrawn(database: Database) -> None:
    """A withdrawal ends every consent of that account at once, of no other, and is audited."""
    with database.write() as connection:
        for name in ("app", "other"):
            accounts.create(connection, accounts.new(name), "tester")
            consents.grant(connection, name, "tester")
        consents.grant(connection, "app", "tester", version="2")
    with database.read() as connection:
        assert consents.in_force(connection)["app"].version == "2"
    with database.write() as connection:
        assert consents.withdraw(connection, "app", "tester") == 2
    with database.read() as connection:
        assert list(consents.in_force(connection)) == ["other"]
        newest = audit.recent(connection, subject="app")[0]
        assert (newest.action, newest.changes) == ("consent.withdraw", [("in_force", 2, 0)])
    with database.write() as connection:
        assert consents.withdraw(connection, "app", "tester") == 0


def test_declared_uses_end(database: Database) -> None:
    """A use counts until its end; one without an end goes on."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        declared_uses.declare(connection, "app", "past", "tester", 5, now() - timedelta(seconds=1))
        declared_uses.declare(connection, "app", "future", "tester", None, now() + timedelta(days=1))
        declared_uses.declare(connection, "app", "always", "tester", 7, None)
    with database.read() as connection:
        assert [use.use for use in declared_uses.of_account(connection, "app")] == ["past", "future", "always"]
        held = {use.use for use in declared_uses.every(connection)["app"] if use.holds(now())}
        assert held == {"future", "always"}
