"""Snapshots and their approval."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.ledger import approvals, audit, snapshots
from gateway.ledger.database import Database
from tests.dashboards import seed
from tests.dashboards.conftest import Person

PAGE = f"/snapshots/{seed.SNAPSHOT}"


def test_what_waits_is_shown_apart(mara: Person) -> None:
    """A snapshot without approval waits; the approved one stands below with its students."""
    page = mara.get("/snapshots")
    assert page.index(seed.SNAPSHOT[:12]) < page.index("Approved by") < page.index("41d7f0d2")
    assert "ticket-router@3" in page


def test_a_snapshot_says_what_is_in_it_and_what_is_not(mara: Person) -> None:
    """Rows by split, what was left out and why, whose rows, and what was scrubbed."""
    page = mara.get(PAGE)
    for words in ("1\u2009214", "its account has an open or confirmed alert", "brightdesk-support", "iban"):
        assert words in page


def test_another_person_approves(mara: Person, database: Database) -> None:
    """An approval is a row with its note, and the page shows it."""
    response = mara.send(f"{PAGE}/approve", note="Samples read.")
    assert response.status_code == 200
    with database.read() as connection:
        [approval] = approvals.of(connection, seed.SNAPSHOT)
        row = audit.recent(connection, limit=1, subject=seed.SNAPSHOT)[0]
    assert approval is not None
    assert (approval.approver, approval.requested_by, approval.note) == ("mara", "joel", "Samples read.")
    assert (row.actor, row.action) == ("mara", "snapshot.approve")


def test_the_requester_can_not_approve(joel: Person, database: Database) -> None:
    """Who asked for a snapshot sees no button but the reason, and a form sent all the same is refused."""
    assert "You asked for this snapshot, so somebody else must approve it." in joel.get(PAGE)
    response = joel.send(f"{PAGE}/approve", note="Mine is fine.")
    assert response.status_code == 409
    assert "somebody else must approve it" in response.text
    with database.read() as connection:
        assert approvals.of(connection, seed.SNAPSHOT) == []


def test_samples_are_covered_until_a_reason_is_given(mara: Person, database: Database) -> None:
    """Rows are shapes; a reveal is audited and opens them."""
    assert "badge reader" not in mara.get(PAGE)
    assert "badge reader" in mara.send(f"{PAGE}/reveal", reason="To check the scrubbing").text
    with database.read() as connection:
        row = audit.recent(connection, limit=1, subject=seed.SNAPSHOT)[0]
    assert row.action == "prompts.reveal"


def test_a_snapshot_without_rows_to_show_is_a_page_all_the_same(
    mara: Person, database: Database, tmp_path: Path
) -> None:
    """An empty or a missing file of rows is said, not a fault."""
    for folder, rows in (("gone", None), ("empty", [])):
        if rows is not None:
            (tmp_path / folder).mkdir()
            pq.write_table(pa.table({"id": rows}), tmp_path / folder / "train.parquet")
        with database.write() as connection:
            connection.execute(snapshots.table.update().values(path=str(tmp_path / folder)))
        assert "No row to show" in mara.get(PAGE)


def test_a_short_hash_leads_to_the_snapshot(mara: Person) -> None:
    """The first characters are enough, as on the command line."""
    assert seed.SNAPSHOT in mara.get(f"/snapshots/{seed.SNAPSHOT[:10]}")
