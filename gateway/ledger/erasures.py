"""Withdrawals and erasures: who asked for which account, when it was done, and the receipt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.identifiers import now, uuid7

Kind = Literal["withdrawal", "erasure"]

table = sa.Table(
    "erasures",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, nullable=False, index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("begun", UtcTime, nullable=False),
    sa.Column("finished", UtcTime),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("receipt", Json),
)


@dataclass(frozen=True)
class Erasure:
    """A request to take an account's rows out of snapshots (`withdrawal`), or all of it out of everything.

    It is under way until `finished`. `rows`: how many of the account's there were.
    """

    id: str
    account: str
    kind: Kind
    actor: str
    begun: datetime
    finished: datetime | None = None
    rows: int = 0
    receipt: dict[str, Any] | None = None


def begin(connection: sa.Connection, account: str, kind: Kind, actor: str) -> Erasure:
    """Return the request of that kind that is under way for the account, or make one."""
    found = under_way(connection, account, kind)
    if found is not None:
        return found
    erasure = Erasure(uuid7(), account, kind, actor, now())
    connection.execute(sa.insert(table).values(**vars(erasure)))
    audit.record(connection, actor, f"account.{_VERBS[kind]}", account, erasure=erasure.id)
    return erasure


def under_way(connection: sa.Connection, account: str, kind: Kind) -> Erasure | None:
    """Return the account's unfinished request of that kind, or None."""
    query = sa.select(table).where(table.c.account == account, table.c.kind == kind, table.c.finished.is_(None))
    row = connection.execute(query).one_or_none()
    return None if row is None else Erasure(**row._mapping)


def set_rows(connection: sa.Connection, erasure: Erasure, rows: int) -> None:
    """Write down how many rows there are to remove, before any goes."""
    connection.execute(sa.update(table).where(table.c.id == erasure.id).values(rows=rows))


def finish(connection: sa.Connection, erasure: Erasure, receipt: dict[str, Any]) -> Erasure:
    """Close a request with its receipt."""
    moment = now()
    connection.execute(sa.update(table).where(table.c.id == erasure.id).values(finished=moment, receipt=receipt))
    audit.record(connection, erasure.actor, f"account.{_DONE[erasure.kind]}", erasure.account, erasure=erasure.id)
    return replace(erasure, finished=moment, receipt=receipt)


def get(connection: sa.Connection, erasure_id: str) -> Erasure:
    """Return a request that is known to exist."""
    return Erasure(**connection.execute(sa.select(table).where(table.c.id == erasure_id)).one()._mapping)


def every(connection: sa.Connection) -> list[Erasure]:
    """Return all requests, newest first."""
    return [Erasure(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.begun.desc()))]


_VERBS: dict[Kind, str] = {"withdrawal": "withdraw", "erasure": "erase"}
_DONE: dict[Kind, str] = {"withdrawal": "withdrawn", "erasure": "erased"}
