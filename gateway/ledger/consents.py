"""Consent to training: by account, with its purpose, version and dates; withdrawal ends it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now, uuid7

TRAINING = "training"
VERSION = "1"

table = sa.Table(
    "consents",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("granted", UtcTime, nullable=False),
    sa.Column("withdrawn", UtcTime),
)


@dataclass(frozen=True)
class Consent:
    """An account's agreement that its rows may serve a purpose, from `granted` until `withdrawn`."""

    id: str
    account: str
    purpose: str
    version: str
    granted: datetime
    withdrawn: datetime | None = None


def grant(
    connection: sa.Connection, account: str, actor: str, *, version: str = VERSION, time: datetime | None = None
) -> Consent:
    """Record an account's consent to training."""
    consent = Consent(uuid7(), account, TRAINING, version, time or now())
    connection.execute(sa.insert(table).values(**vars(consent)))
    after = {"purpose": TRAINING, "version": version, "granted": consent.granted}
    audit.record(connection, actor, "consent.grant", account, after=after)
    return consent


def withdraw(connection: sa.Connection, account: str, actor: str) -> int:
    """End every consent of the account; returns how many were in force."""
    ended = connection.execute(
        sa.update(table).where(table.c.account == account, table.c.withdrawn.is_(None)).values(withdrawn=now())
    ).rowcount
    audit.record(connection, actor, "consent.withdraw", account, before={"in_force": ended}, after={"in_force": 0})
    return ended


def in_force(connection: sa.Connection, names: Sequence[str] | None = None) -> dict[str, Consent]:
    """Return, by account, the consents to training that are in force now; of some accounts where they are given."""
    query = sa.select(table).where(table.c.purpose == TRAINING, table.c.withdrawn.is_(None)).order_by(table.c.granted)
    if names is not None:
        query = query.where(table.c.account.in_(names))
    return {row.account: Consent(**row._mapping) for row in connection.execute(query)}
