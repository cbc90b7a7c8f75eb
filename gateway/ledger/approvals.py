"""Approvals: a person's yes to exactly these bytes, never by the one who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now

table = sa.Table(
    "approvals",
    metadata,
    sa.Column("snapshot", sa.String, primary_key=True),
    sa.Column("approver", sa.String, nullable=False),
    sa.Column("requested_by", sa.String, nullable=False),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Approval:
    """An approver's yes to the snapshot of that hash."""

    snapshot: str
    approver: str
    requested_by: str
    time: datetime
    note: str


def give(connection: sa.Connection, snapshot: str, approver: str, requested_by: str, note: str) -> Approval:
    """Record an approval; `Forbidden` when the approver is the requester. The first approval stands."""
    if approver == requested_by:
        raise Forbidden(f"{approver} asked for this snapshot, so somebody else must approve it")
    known = find(connection, snapshot)
    if known is not None:
        return known
    approval = Approval(snapshot, approver, requested_by, now(), note)
    connection.execute(sa.insert(table).values(**vars(approval)))
    after = {"approved": True}
    audit.record(
        connection, approver, "snapshot.approve", snapshot, after=after, reason=note, requested_by=requested_by
    )
    return approval


def find(connection: sa.Connection, snapshot: str) -> Approval | None:
    """Return the approval of a snapshot's full hash, or None."""
    row = connection.execute(sa.select(table).where(table.c.snapshot == snapshot)).one_or_none()
    return None if row is None else Approval(**row._mapping)


def every(connection: sa.Connection) -> list[Approval]:
    """Return all approvals, newest first."""
    return [Approval(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.time.desc()))]
