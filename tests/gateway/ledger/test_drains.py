"""Drained backends: a person's decision, in force until it is undone."""

from __future__ import annotations

import pytest

from gateway.ledger import audit, control, drains
from gateway.ledger.database import Database
from gateway.ledger.errors import NotFound

URL = "http://10.0.0.1:8000"


def test_a_drain_is_in_force_until_it_is_undone(database: Database) -> None:
    """The control state has it, the audit both decisions."""
    with database.write() as connection:
        first = drains.begin(connection, URL, "ann", "new driver")
        assert drains.begin(connection, URL, "bob", "me too") == first
    assert control.load(database).drained == {URL}
    with database.write() as connection:
        drains.end(connection, URL, "bob", "done")
        entries = audit.recent(connection, subject=URL)
    assert control.load(database).drained == frozenset()
    assert [(entry.actor, entry.action) for entry in entries] == [("bob", "fleet.undrain"), ("ann", "fleet.drain")]
    assert (entries[1].reason, entries[1].changes) == ("new driver", [("drained", False, True)])


def test_what_is_not_drained_cannot_be_put_back(database: Database) -> None:
    """The error names the command that shows what is."""
    with database.write() as connection, pytest.raises(NotFound, match="fleet list"):
        drains.end(connection, URL, "ann", "")
