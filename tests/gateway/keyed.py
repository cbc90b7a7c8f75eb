"""A control plane with one account and its keys, and the heads that present them."""

from __future__ import annotations

from gateway.ledger import accounts, keys
from gateway.ledger.database import Database
from gateway.protocol.head import Head
from tests.control_plane import fresh

SECRET = b"s" * 32


def furnished(url: str) -> Database:
    """Open a control plane with one account."""
    database = fresh(url)
    with database.write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
    return database


def make_key(database: Database) -> tuple[keys.Key, str]:
    """Make a key of the account."""
    with database.write() as connection:
        return keys.create(connection, SECRET, "acme", "test")


def head(value: str) -> Head:
    """Return a head with that authorization."""
    return Head(b"/v1/chat/completions", [(b"authorization", value.encode())])
