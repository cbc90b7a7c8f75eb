"""Marks: snapshots that lost rows, and students that were trained on rows that are withdrawn or erased since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from gateway.ledger import erasures
from gateway.ledger.database import metadata

Kind = Literal["snapshot", "student"]

table = sa.Table(
    "marks",
    metadata,
    sa.Column("erasure", sa.String, sa.ForeignKey("erasures.id"), primary_key=True),
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("reference", sa.String, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Mark:
    """That a snapshot (by its hash) or a student (`NAME@VERSION`) held `rows` rows of what a request took away."""

    erasure: str
    kind: Kind
    reference: str
    rows: int


def put(connection: sa.Connection, mark: Mark) -> None:
    """Mark a snapshot or student; the first mark of a request stands, so that a second attempt keeps its count."""
    known = {(other.kind, other.reference) for other in of_erasure(connection, mark.erasure)}
    if (mark.kind, mark.reference) not in known:
        connection.execute(sa.insert(table).values(**vars(mark)))


def of_erasure(connection: sa.Connection, erasure: str) -> list[Mark]:
    """Return what a request marked."""
    query = sa.select(table).where(table.c.erasure == erasure).order_by(table.c.kind, table.c.reference)
    return [Mark(**row._mapping) for row in connection.execute(query)]


def of(connection: sa.Connection, kind: Kind, reference: str) -> list[tuple[Mark, erasures.Erasure]]:
    """Return a snapshot's or student's marks, each with the request that it comes from."""
    query = sa.select(table).where(table.c.kind == kind, table.c.reference == reference)
    found = [Mark(**row._mapping) for row in connection.execute(query)]
    return [(mark, erasures.get(connection, mark.erasure)) for mark in found]
