"""The registry: a student's states, each reached by the one who may bring it there."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import audit, registry
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, Forbidden, NotFound
from gateway.ledger.identifiers import now


def student(name: str, version: int = 1, **fields: Any) -> registry.Student:
    """A student in state `trained`, of the task that it is named after."""
    values: dict[str, Any] = {
        "task": name,
        "endpoint": "chat.completions",
        "skeleton": "5e",
        "snapshot": "ab" * 32,
        "teacher": "teacher",
        "path": f"/students/{name}",
        "state": "trained",
        "created": now(),
        "parameters": 50_000_000,
        "context_length": 2048,
        "licence": "Apache-2.0",
        "training": {"trained": True, "seed": 1},
    }
    return registry.Student(name, version, **(values | fields))


def _gate(connection: sa.Connection, reference: str, passed: bool = True) -> registry.Student:
    return registry.record_gate(connection, reference, passed, {"verdict": "x"}, (3, 9), "measured", "gate")


def test_a_student_is_kept_as_it_was_added(database: Database) -> None:
    """All fields come back, by reference and by name; the same version can't be added twice."""
    made = student("labels", adequacy="/a.npz", url="http://127.0.0.1:9001")
    with database.write() as connection:
        assert registry.next_version(connection, "labels") == 1
        registry.add(connection, made, "tester")
        assert registry.next_version(connection, "labels") == 2
        with pytest.raises(AlreadyExists, match="next version"):
            registry.add(connection, made, "tester")
    with database.read() as connection:
        assert registry.get(connection, "labels@1") == made
        assert registry.get(connection, "labels") == made
        assert registry.every(connection) == [made]


def test_a_name_without_a_version_is_the_promoted_one(database: Database) -> None:
    """Else the newest; whatever is no version is nobody."""
    with database.write() as connection:
        for version in (1, 2, 10):
            registry.add(connection, student("labels", version), "tester")
        assert registry.get(connection, "labels").version == 10
        _gate(connection, "labels@2")
        registry.promote(connection, "labels@2", "ann")
        assert registry.get(connection, "labels").version == 2
        for reference in ("labels@3", "labels@x", "other"):
            assert registry.find(connection, reference) is None
        with pytest.raises(NotFound, match="models list"):
            registry.get(connection, "other")


def test_the_gate_decides_once(database: Database) -> None:
    """Passed: a candidate with its prices; refused: refused; neither is decided again."""
    with database.write() as connection:
        for name in ("good", "bad"):
            registry.add(connection, student(name), "tester")
        good, bad = _gate(connection, "good@1"), _gate(connection, "bad@1", passed=False)
        assert (good.state, bad.state) == ("candidate", "refused")
        assert (good.input_price, good.output_price, good.price_basis) == (3, 9, "measured")
        for reference in ("good@1", "bad@1"):
            with pytest.raises(Forbidden, match="train a new version"):
                _gate(connection, reference)
        assert registry.get(connection, "good@1") == good


@pytest.mark.parametrize("state", ["trained", "refused", "promoted", "retired"])
def test_only_a_candidate_can_be_promoted(database: Database, state: registry.State) -> None:
    """What the gate has not proven never gets `auto`'s traffic."""
    with database.write() as connection:
        registry.add(connection, student("labels", state=state), "tester")
        with pytest.raises(Forbidden, match="only a candidate"):
            registry.promote(connection, "labels@1", "ann")


def test_a_task_has_one_promoted_student(database: Database) -> None:
    """The next one promoted retires the one before it, not those of other tasks; all of it is audited."""
    with database.write() as connection:
        for name, version, task in (("labels", 1, "t"), ("labels", 2, "t"), ("other", 1, "u")):
            registry.add(connection, student(name, version, task=task), "tester")
            _gate(connection, f"{name}@{version}")
        for reference in ("labels@1", "other@1", "labels@2"):
            registry.promote(connection, reference, "ann", "it is better")
        states = {one.reference: one.state for one in registry.every(connection)}
        assert states == {"labels@1": "retired", "labels@2": "promoted", "other@1": "promoted"}
        assert registry.get(connection, "labels@2").promoted_by == "ann"
        assert audit.recent(connection, subject="labels@1")[0].action == "student.retire"


def test_a_rollback_makes_a_candidate_again(database: Database) -> None:
    """It keeps its process and can be promoted anew; only a promoted one can be rolled back."""
    with database.write() as connection:
        registry.add(connection, student("labels"), "tester")
        _gate(connection, "labels@1")
        with pytest.raises(Forbidden, match="only a promoted student"):
            registry.rollback(connection, "labels@1", "ann")
        registry.promote(connection, "labels@1", "ann")
        registry.set_url(connection, "labels@1", "http://127.0.0.1:9001")
        back = registry.rollback(connection, "labels@1", "bob", "slow")
        assert (back.state, back.promoted_by, back.url) == ("candidate", None, "http://127.0.0.1:9001")
        registry.promote(connection, "labels@1", "ann")
        assert registry.in_state(connection, "promoted")[0].reference == "labels@1"
