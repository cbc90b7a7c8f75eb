"""Keys and the control state that they are looked up in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from gateway.authentication import authenticate
from gateway.errors import Unauthenticated
from gateway.ledger import keys
from gateway.ledger.control import load
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from gateway.protocol.head import Head
from tests.gateway.keyed import SECRET, furnished, head, make_key


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """A control plane with one account."""
    database = furnished(control_url)
    yield database
    database.close()


def test_a_key_names_its_account(database: Database) -> None:
    """A bearer token is looked up by its keyed hash; the scheme's case does not matter."""
    key, text = make_key(database)
    for scheme in ("Bearer", "bearer", "BEARER"):
        found = authenticate(head(f"{scheme} {text}"), SECRET, load(database), now())
        assert (found.account.name, found.key.id) == ("acme", key.id)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Bearer sk-safe-nobody", "Basic YTpi", "Bearer \xff"])
def test_anything_else_is_unauthenticated(database: Database, value: str) -> None:
    """No key, no scheme, an unknown key: 401."""
    make_key(database)
    with pytest.raises(Unauthenticated):
        authenticate(head(value), SECRET, load(database), now())
    with pytest.raises(Unauthenticated):
        authenticate(Head(b"", []), SECRET, load(database), now())


def test_a_key_ends_at_the_moment_it_was_told(database: Database) -> None:
    """Between two loads of the state: good a millisecond before its end, 401 with the reason at it."""
    end = now() + timedelta(hours=1)
    with database.write() as connection:
        _, text = keys.create(connection, SECRET, "acme", "test", expires=end)
    state = load(database)
    authenticate(head(f"Bearer {text}"), SECRET, state, end - timedelta(milliseconds=1))
    with pytest.raises(Unauthenticated, match="has expired"):
        authenticate(head(f"Bearer {text}"), SECRET, state, end)


def test_a_rotation_accepts_both_for_the_grace(database: Database) -> None:
    """Old and new until the old one's end, then the new one alone."""
    key, old = make_key(database)
    with database.write() as connection:
        _, new = keys.rotate(connection, SECRET, key.id, "test", timedelta(hours=24))
    state, later = load(database), now() + timedelta(hours=24, seconds=1)
    for text in (old, new):
        authenticate(head(f"Bearer {text}"), SECRET, state, now())
    authenticate(head(f"Bearer {new}"), SECRET, state, later)
    with pytest.raises(Unauthenticated):
        authenticate(head(f"Bearer {old}"), SECRET, state, later)
