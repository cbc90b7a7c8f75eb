"""Appeals: what accounts say against alerts, noted by the operator who heard it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now, uuid7

table = sa.Table(
    "appeals",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("alert", sa.String, nullable=False, index=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("operator", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Appeal:
    """What an account says against an alert."""

    id: str
    alert: str
    account: str
    created: datetime
    operator: str
    note: str


def note(connection: sa.Connection, alert: str, account: str, operator: str, text: str) -> Appeal:
    """Keep an appeal; `alerts.appeal` is what reopens the alert and audits it."""
    row = Appeal(uuid7(), alert, account, now(), operator, text)
    connection.execute(sa.insert(table).values(**vars(row)))
    return row


def of_alert(connection: sa.Connection, alert: str) -> list[Appeal]:
    """Return the appeals against an alert, oldest first."""
    query = sa.select(table).where(table.c.alert == alert).order_by(table.c.created, table.c.id)
    return [Appeal(**row._mapping) for row in connection.execute(query)]
