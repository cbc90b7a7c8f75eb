"""Saved views: filters of the queue under a name, each operator's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import now

MOST = 20

table = sa.Table(
    "saved_views",
    metadata,
    sa.Column("operator", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("query", sa.String, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class SavedView:
    """A view of the queue; `query` is what stands behind the question mark of its address."""

    operator: str
    name: str
    query: str
    created: datetime


def save(connection: sa.Connection, operator: str, name: str, query: str) -> SavedView:
    """Keep a view, in the place of one of the same name; `InvalidValue` without a name or beyond twenty."""
    name = name.strip()
    if not 0 < len(name) <= 40 or not name.isprintable():
        raise InvalidValue("a view needs a name of 1 to 40 characters")
    known = {view.name for view in of_operator(connection, operator)}
    if name not in known and len(known) >= MOST:
        raise InvalidValue(f"there are {MOST} views already: remove one first")
    remove(connection, operator, name)
    view = SavedView(operator, name, query, now())
    connection.execute(sa.insert(table).values(**vars(view)))
    return view


def remove(connection: sa.Connection, operator: str, name: str) -> None:
    """Forget a view."""
    connection.execute(sa.delete(table).where(table.c.operator == operator, table.c.name == name))


def of_operator(connection: sa.Connection, operator: str) -> list[SavedView]:
    """Return an operator's views by name."""
    query = sa.select(table).where(table.c.operator == operator).order_by(table.c.name)
    return [SavedView(**row._mapping) for row in connection.execute(query)]
