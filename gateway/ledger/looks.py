"""Looks: up to when each operator has seen the queue, which is what "new" is measured by."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now

table = sa.Table(
    "looks",
    metadata,
    sa.Column("operator", sa.String, primary_key=True),
    sa.Column("time", UtcTime, nullable=False),
)


def note(connection: sa.Connection, operator: str) -> None:
    """Note that an operator has seen the queue as it is now."""
    connection.execute(sa.delete(table).where(table.c.operator == operator))
    connection.execute(sa.insert(table).values(operator=operator, time=now()))


def last(connection: sa.Connection, operator: str) -> datetime | None:
    """Return when an operator last said to have seen all of it, None before the first time."""
    found: datetime | None = connection.execute(sa.select(table.c.time).where(table.c.operator == operator)).scalar()
    return found
