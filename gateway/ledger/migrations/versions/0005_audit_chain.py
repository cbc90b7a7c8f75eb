"""The audit log becomes a chain of hashes that the database only adds to.

Rows get a number, what was before and after, the reason, and a hash over their content and the hash before. Those there
are are numbered by time; what was the note or the reason in their detail is their reason now, and their detail stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BATCH = 1000
GENESIS = "0" * 64
HASHED = ("number", "id", "time", "actor", "action", "subject", "detail", "before", "after", "reason")
OLD = sa.table("audit", *(sa.column(name) for name in ("id", "time", "actor", "action", "subject", "detail")))


def upgrade() -> None:
    """Copy the log, chained, into a table that takes the old one's place; then forbid changes."""
    chained = op.create_table(
        "audit_chained",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("hash", sa.String, nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    number, last = 0, GENESIS
    for batch in _chained():
        op.get_bind().execute(sa.insert(chained), batch)
        number, last = batch[-1]["number"], batch[-1]["hash"]
    op.bulk_insert(head, [{"id": 1, "number": number, "hash": last}])
    op.drop_table("audit")
    op.rename_table("audit_chained", "audit")
    op.create_index("ix_audit_time", "audit", ["time"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    _forbid_changes()


def downgrade() -> None:
    """Refuse: a schema only moves forward; a backup is the way back."""
    raise RuntimeError("the schema only moves forward: restore a backup to go back")


def _chained() -> Iterator[list[dict[str, Any]]]:
    number, last = 0, GENESIS
    rows = op.get_bind().execute(sa.select(OLD).order_by(OLD.c.time, OLD.c.id))
    while batch := rows.fetchmany(BATCH):
        made = []
        for row in batch:
            number += 1
            detail = json.loads(row.detail)
            reason = detail.get("note") or detail.get("reason") or None
            new = dict(row._mapping) | {"number": number, "before": None, "after": None, "reason": reason}
            content = json.dumps([last, *(new[name] for name in HASHED)], separators=(",", ":"))
            last = hashlib.sha256(content.encode()).hexdigest()
            made.append(new | {"hash": last})
        yield made


def _forbid_changes() -> None:
    text = "the audit log is only added to"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_changes_of_audit() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{text}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_is_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes_of_audit()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{event.lower()} BEFORE {event} ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{text}'); END"
        )
    # SQLite's INSERT OR REPLACE deletes without asking the triggers of deletion.
    op.execute(
        "CREATE TRIGGER audit_refuses_replacing BEFORE INSERT ON audit "
        "WHEN NEW.number <= (SELECT max(number) FROM audit) OR EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) "
        f"BEGIN SELECT RAISE(ABORT, '{text}'); END"
    )
