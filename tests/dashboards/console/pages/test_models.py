"""Models, students and their promotion."""

from __future__ import annotations

from gateway.ledger import audit, registry
from gateway.ledger.database import Database
from tests.dashboards.conftest import Person


def test_models_are_shown_with_what_they_cost_and_serve(mara: Person) -> None:
    """Base models and students stand with their prices; what waits for a person comes first."""
    page = mara.get("/models")
    assert page.index("ticket-router@4") < page.index("ticket-router@3") < page.index("ticket-router@1")
    assert "$1.00, $3.00" in page
    assert "$0.38, $1.14" in page


def test_a_student_shows_its_proof(mara: Person) -> None:
    """The gate's verdict, the settings of its training and the rule by which it answers are on its page."""
    page = mara.get("/models/ticket-router@4")
    assert "within the margin of 5 points fixed before training" in page
    assert "learning rate" in page
    assert "holds 95 % of held-out rows" in page
    assert "measured ratio of tokens/s" in page


def test_a_student_whose_files_are_gone_is_shown_all_the_same(mara: Person, database: Database) -> None:
    """Missing weights, curve and distance are said, not a fault."""
    with database.write() as connection:
        change = {"path": "/nowhere", "adequacy": "/nowhere/distance.npz"}
        connection.execute(registry.table.update().values(**change))
    page = mara.get("/models/ticket-router@4")
    assert "No loss curve" in page
    assert "can&#39;t be read" in page


def test_a_person_promotes_and_rolls_back(mara: Person, database: Database) -> None:
    """A candidate replaces its task's student and is taken back again; both with a note in the audit log."""
    promoted = mara.send("/models/ticket-router@4/promote", note="Two points better on the gate.")
    assert "Promoted" in promoted.text
    with database.read() as connection:
        states = {student.reference: student.state for student in registry.every(connection)}
        row = audit.recent(connection, limit=1, subject="ticket-router@4")[0]
    assert states["ticket-router@4"] == "promoted"
    assert states["ticket-router@3"] == "retired"
    assert (row.actor, row.action, row.reason) == ("mara", "student.promote", "Two points better on the gate.")
    rolled_back = mara.send("/models/ticket-router@4/rollback", note="Complaints about the access queue.")
    assert "Rolled back" in rolled_back.text
    with database.read() as connection:
        assert registry.get(connection, "ticket-router@4").state == "candidate"


def test_what_the_gate_did_not_pass_can_not_be_promoted(mara: Person, database: Database) -> None:
    """A form sent past the page is refused with the reason."""
    response = mara.send("/models/ticket-router@1/promote", note="I like it.")
    assert response.status_code == 409
    assert "only a candidate" in response.text
    with database.read() as connection:
        assert registry.get(connection, "ticket-router@1").state == "refused"


def test_a_promotion_needs_a_note(mara: Person, database: Database) -> None:
    """Without a sentence nothing changes."""
    assert mara.send("/models/ticket-router@4/promote", note="").status_code == 422
    with database.read() as connection:
        assert registry.get(connection, "ticket-router@4").state == "candidate"
