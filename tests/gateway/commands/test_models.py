"""`spiritsafe models …`: a student's way into `auto`, and when it ends."""

from __future__ import annotations

from gateway.ledger import erasures, marks, registry
from gateway.ledger.database import open_database
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.test_registry import student


def test_a_rollout_is_advanced_ended_and_listed(cli: Cli) -> None:
    """`advance` begins the shadow and waits for proof, `rollback` ends it; a marked student is listed with its date."""
    database = open_database(cli.settings.database_url)
    with database.write() as connection:
        registry.add(connection, student("labels"), "test")
        registry.record_gate(connection, "labels@1", True, {"verdict": "x"}, (1, 1), "measured", "test")
        erasure = erasures.begin(connection, "app", "withdrawal", "test")
        marks.put(connection, marks.Mark(erasure.id, "student", "labels@1", 4))
    database.close()
    (row,) = cli.rows("models", "advance", "labels@1", "--operator", "mara")
    assert (row["state"], row["stage"]) == ("candidate", "shadow")
    refused = cli.run("models", "advance", "labels@1", "--operator", "mara", exit_code=1)
    assert "distill watch labels@1" in refused.stderr
    cli.run("models", "rollback", "labels@1", "--operator", "mara", "--note", "enough")
    listed = {row["name"]: row for row in cli.rows("models", "list")}
    assert listed["labels@1"]["removed_rows"] == 4
    assert listed["labels@1"]["retire_by"].endswith("Z")
