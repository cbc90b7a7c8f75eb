"""What happened to alerts, in order, for those who tell people of it; the rows name no account and go after a month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

import sqlalchemy as sa

from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now
from gateway.ledger.policies import Severity

Kind = Literal["opened", "raised", "decided"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEPT = timedelta(days=30)

table = sa.Table(
    "alert_events",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("alert", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
)


@dataclass(frozen=True)
class AlertEvent:
    """An alert was opened, its severity was raised, or somebody decided; `severity` is what it then was."""

    number: int
    time: datetime
    kind: Kind
    alert: str
    severity: Severity


def record(connection: sa.Connection, kind: Kind, alert: str, severity: Severity) -> None:
    """Write an event down in the transaction that makes it happen; writers take turns, so numbers are in order."""
    # Counted here: a database's own counter would begin anew behind the rows of a restored backup.
    event = AlertEvent(newest(connection) + 1, now(), kind, alert, severity)
    connection.execute(sa.insert(table).values(**vars(event)))


def after(connection: sa.Connection, number: int, limit: int) -> list[AlertEvent]:
    """Return the first events after a number."""
    query = sa.select(table).where(table.c.number > number).order_by(table.c.number).limit(limit)
    return [AlertEvent(**row._mapping) for row in connection.execute(query)]


def newest(connection: sa.Connection) -> int:
    """Return the newest event's number, 0 before there is any."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.number), 0))).scalar_one())


def forget_old(connection: sa.Connection) -> int:
    """Remove the events of more than a month ago but for the newest, whose number must not come again."""
    old = sa.and_(table.c.time < now() - KEPT, table.c.number < newest(connection))
    return connection.execute(sa.delete(table).where(old)).rowcount
