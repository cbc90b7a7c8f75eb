"""Frozen training snapshots, and the approval of their hash by a person who did not ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger import approvals, audit
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.errors import NotFound
from gateway.ledger.identifiers import now

table = sa.Table(
    "snapshots",
    metadata,
    sa.Column("hash", sa.String, primary_key=True),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("skeleton", sa.String, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("requested_by", sa.String, nullable=False),
    sa.Column("report", Json, nullable=False),
)


@dataclass(frozen=True)
class Snapshot:
    """A frozen set of rows of one task.

    `hash` is the SHA-256 of its manifest, which names every row; `report` has the counts per split (`rows`), what was
    left out and why (`left_out`: reason → count), the accounts (`accounts`: name → rows) and `scrubbed` (type → count).
    """

    hash: str
    task: str
    endpoint: str
    skeleton: str
    path: str
    created: datetime
    requested_by: str
    report: dict[str, Any]

    @property
    def needed(self) -> int:
        """How many persons must approve, as the policy was when it was frozen."""
        return int(self.report.get("approvals", 1))


def propose(connection: sa.Connection, snapshot: Snapshot) -> Snapshot:
    """Register a frozen snapshot as waiting for approval; the same hash twice is the same proposal."""
    if connection.execute(sa.select(table).where(table.c.hash == snapshot.hash)).one_or_none() is None:
        connection.execute(sa.insert(table).values(**vars(snapshot)))
        after = {"task": snapshot.task, "rows": snapshot.report.get("rows")}
        audit.record(connection, snapshot.requested_by, "snapshot.propose", snapshot.hash, after=after)
    return get(connection, snapshot.hash)


def new(
    digest: str, task: str, endpoint: str, skeleton: str, path: str, requested_by: str, report: dict[str, Any]
) -> Snapshot:
    """Make a snapshot's row, dated now."""
    return Snapshot(digest, task, endpoint, skeleton, path, now(), requested_by, report)


def get(connection: sa.Connection, digest: str) -> Snapshot:
    """Return the snapshot whose hash is, or uniquely begins with, `digest` (at least 8 characters)."""
    query = sa.select(table).where(table.c.hash.startswith(digest, autoescape=True))
    rows = connection.execute(query).all() if len(digest) >= 8 else []
    if len(rows) != 1:
        raise NotFound(f"no one snapshot has the hash {digest!r}: `spiritsafe distill list` shows those there are")
    return Snapshot(**rows[0]._mapping)


def every(connection: sa.Connection) -> list[tuple[Snapshot, approvals.Approval | None]]:
    """Return all snapshots, newest first, each with the approval that made it approved, or None."""
    given = approvals.every(connection)
    rows = connection.execute(sa.select(table).order_by(table.c.created.desc()))
    found = [Snapshot(**row._mapping) for row in rows]
    return [(snapshot, approvals.complete(given.get(snapshot.hash, []), snapshot.needed)) for snapshot in found]


def approval(connection: sa.Connection, snapshot: Snapshot) -> approvals.Approval | None:
    """Return the approval that made a snapshot approved, or None while as many as it needs have not approved."""
    return approvals.complete(approvals.of(connection, snapshot.hash), snapshot.needed)


def approve(connection: sa.Connection, digest: str, approver: str, note: str = "") -> approvals.Approval:
    """Approve a snapshot's hash; `Forbidden` for the one who asked for it. Approving twice keeps the first."""
    snapshot = get(connection, digest)
    return approvals.give(connection, snapshot.hash, approver, snapshot.requested_by, note, snapshot.needed)
