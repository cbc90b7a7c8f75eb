"""Declared uses: what an account said it would do in bulk, with a cap and an end; a register the detector reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now, uuid7

table = sa.Table(
    "declared_uses",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("use", sa.String, nullable=False),
    sa.Column("cap_per_day", sa.Integer),
    sa.Column("until", UtcTime),
    sa.Column("created", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class DeclaredUse:
    """A use in words, at most `cap_per_day` requests a day, valid `until` a time (None: open-ended)."""

    id: str
    account: str
    use: str
    cap_per_day: int | None
    until: datetime | None
    created: datetime


def declare(
    connection: sa.Connection, account: str, use: str, actor: str, cap_per_day: int | None, until: datetime | None
) -> DeclaredUse:
    """Register a use of an account."""
    row = DeclaredUse(uuid7(), account, use, cap_per_day, until, now())
    connection.execute(sa.insert(table).values(**vars(row)))
    after = {"use": row.id, "cap_per_day": cap_per_day, "until": until}
    audit.record(connection, actor, "use.declare", account, after=after)
    return row


def of_account(connection: sa.Connection, account: str) -> list[DeclaredUse]:
    """Return an account's declared uses, oldest first."""
    query = sa.select(table).where(table.c.account == account).order_by(table.c.created)
    return [DeclaredUse(**row._mapping) for row in connection.execute(query)]


def every(connection: sa.Connection) -> dict[str, list[DeclaredUse]]:
    """Return all uses by account, those that have ended included."""
    found: dict[str, list[DeclaredUse]] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.created)):
        found.setdefault(row.account, []).append(DeclaredUse(**row._mapping))
    return found


def in_force(connection: sa.Connection) -> dict[str, list[DeclaredUse]]:
    """Return, by account, the uses that have not ended."""
    found: dict[str, list[DeclaredUse]] = {}
    for row in connection.execute(sa.select(table).where(sa.or_(table.c.until.is_(None), table.c.until > now()))):
        found.setdefault(row.account, []).append(DeclaredUse(**row._mapping))
    return found
