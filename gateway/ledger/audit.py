"""The audit log: who did what to whom, when and why; rows are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.identifiers import now, uuid7

table = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("time", UtcTime, nullable=False, index=True),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("detail", Json, nullable=False),
)


@dataclass(frozen=True)
class AuditRow:
    """One action: `actor` is an operator's name or `cli:USER`, `subject` an account, alert, snapshot or student."""

    id: str
    time: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


def record(connection: sa.Connection, actor: str, action: str, subject: str, **detail: Any) -> AuditRow:
    """Add a row inside the caller's write transaction, so that no decision exists without it."""
    row = AuditRow(uuid7(), now(), actor, action, subject, detail)
    connection.execute(sa.insert(table).values(**vars(row)))
    return row


def recent(connection: sa.Connection, limit: int = 100, subject: str | None = None) -> list[AuditRow]:
    """Return the newest rows first, of one subject where it is given."""
    query = sa.select(table).order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(table.c.subject == subject)
    return [AuditRow(**row._mapping) for row in connection.execute(query)]
