"""Accounts and their usage."""

from __future__ import annotations

from gateway.ledger import audit, enforcement
from gateway.ledger.database import Database
from tests.dashboards.conftest import Person


def test_usage_is_told_by_account(mara: Person) -> None:
    """Every account has a line, the one without traffic too."""
    page = mara.get("/accounts")
    for name in ("brightdesk-support", "tallow-research", "house-checks"):
        assert f">{name}</a>" in page
    assert "suspended" in page
    assert "consents" in page


def test_usage_is_told_by_account_and_model(mara: Person) -> None:
    """An account that two models answered has two lines."""
    page = mara.get("/accounts?by=model&q=brightdesk")
    assert page.count(">brightdesk-support</a>") == 2
    assert "ticket-router@3" in page


def test_odd_addresses_are_read_as_something(mara: Person) -> None:
    """A period or page that does not exist shows all time and the first page."""
    assert "all time" in mara.get("/accounts?period=eleven&page=-3")


def test_an_account_shows_no_key(mara: Person) -> None:
    """Of a key only its last four characters are shown."""
    page = mara.get("/accounts/novum-tutors")
    assert "sk-safe-" not in page
    assert page.count("<code>…") == 1


def test_a_measure_is_cleared_with_a_note(mara: Person, database: Database) -> None:
    """Clearing ends it at once and is audited; without a note nothing happens."""
    refused = mara.send("/accounts/novum-tutors/clear", note=" ")
    assert refused.status_code == 422
    with database.read() as connection:
        assert "novum-tutors" in enforcement.in_force(connection)
    cleared = mara.send("/accounts/novum-tutors/clear", note="They showed us the study plan.")
    assert "Cleared" in cleared.text
    with database.read() as connection:
        assert "novum-tutors" not in enforcement.in_force(connection)
        row = audit.recent(connection, limit=1, subject="novum-tutors")[0]
    assert (row.actor, row.action, row.reason) == ("mara", "enforce.clear", "They showed us the study plan.")
