"""The stages of a rollout: each begun by a person, on proof of the one before; back it goes by itself."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.ledger import audit, registry, rollouts
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden
from tests.gateway.ledger.test_registry import student


def candidate(connection: sa.Connection, version: int = 1) -> registry.Student:
    registry.add(connection, student("labels", version), "tester")
    return registry.record_gate(connection, f"labels@{version}", True, {"verdict": "x"}, (3, 9), "measured", "gate")


def test_every_stage_waits_for_the_proof_of_the_one_before(database: Database) -> None:
    """shadow, 1, 10, 50, promoted: none without `passed`, and each new stage begins without proof."""
    with database.write() as connection:
        candidate(connection)
        shares = []
        for _ in range(4):
            made = rollouts.advance(connection, "labels@1", "mara", "go on")
            shares.append(rollouts.share_of(made))
            with pytest.raises(Forbidden, match="live pairs have not proven labels@1 at the stage"):
                rollouts.advance(connection, "labels@1", "mara")
            rollouts.record_look(connection, "labels@1", {"outcome": "passed", "looks": 1})
        assert shares == [0.0, 0.01, 0.1, 0.5]
        promoted = rollouts.advance(connection, "labels@1", "mara")
        assert (promoted.state, promoted.rollout, rollouts.share_of(promoted)) == ("promoted", None, 1.0)
        done = [row.action for row in audit.recent(connection, subject="labels@1")]
        assert done.count("student.stage") == 4


def test_the_incumbent_goes_on_until_the_promotion(database: Database) -> None:
    """A rollout does not retire the promoted student of the task; it ends without a trace in its state."""
    with database.write() as connection:
        candidate(connection)
        registry.promote(connection, "labels@1", "mara")
        candidate(connection, 2)
        rollouts.advance(connection, "labels@2", "mara")
        assert registry.get(connection, "labels@1").state == "promoted"
        stopped = rollouts.stop(connection, "labels@2", "rollout", "worse")
        assert (stopped.state, rollouts.stage_of(stopped), rollouts.share_of(stopped)) == ("candidate", None, 0.0)
        with pytest.raises(Forbidden, match="no rollout"):
            rollouts.stop(connection, "labels@2", "rollout", "worse")


def test_only_a_candidate_is_rolled_out(database: Database) -> None:
    """What the gate has not passed begins no stage."""
    with database.write() as connection:
        registry.add(connection, student("labels"), "tester")
        with pytest.raises(Forbidden, match="only a candidate"):
            rollouts.advance(connection, "labels@1", "mara")
