"""Drained backends: servers that an operator has taken out; they finish what they have and get nothing new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import NotFound
from gateway.ledger.identifiers import now

table = sa.Table(
    "drains",
    metadata,
    sa.Column("url", sa.String, primary_key=True),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("operator", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Drain:
    """A backend that is out since `created`, by whom and why; `url` is its root, without `/v1`."""

    url: str
    created: datetime
    operator: str
    note: str


def begin(connection: sa.Connection, url: str, operator: str, note: str) -> Drain:
    """Take a backend out; one that is out already stays so, with its first row."""
    for known in every(connection):
        if known.url == url:
            return known
    row = Drain(url, now(), operator, note)
    connection.execute(sa.insert(table).values(**vars(row)))
    audit.record(
        connection, operator, "fleet.drain", url, before={"drained": False}, after={"drained": True}, reason=note
    )
    return row


def end(connection: sa.Connection, url: str, operator: str, note: str) -> None:
    """Put a backend back; `NotFound` when it is not out."""
    if connection.execute(sa.delete(table).where(table.c.url == url)).rowcount == 0:
        raise NotFound(f"{url} is not drained: `spiritsafe fleet list` shows which are")
    audit.record(
        connection, operator, "fleet.undrain", url, before={"drained": True}, after={"drained": False}, reason=note
    )


def every(connection: sa.Connection) -> list[Drain]:
    """Return the backends that are out, by URL."""
    return [Drain(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.url))]
