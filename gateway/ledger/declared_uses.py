"""Declared uses: what an account said it would do in bulk, with a cap and an end; a register the detector reads.

An operator grants each one, which answers a request for verification; `declared_usage` holds it against the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import accounts, audit, enforcement
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
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
    sa.Column("granted_by", sa.String),
    sa.Column("revoked", UtcTime),
)


@dataclass(frozen=True)
class DeclaredUse:
    """A use in words, at most `cap_per_day` requests a day, valid `until` a time (None: open-ended) or `revoked`."""

    id: str
    account: str
    use: str
    cap_per_day: int | None
    until: datetime | None
    created: datetime
    granted_by: str | None = None
    revoked: datetime | None = None

    def holds(self, moment: datetime) -> bool:
        """Is it valid at a moment?"""
        return self.revoked is None and (self.until is None or moment < self.until)


def declare(
    connection: sa.Connection, account: str, use: str, actor: str, cap_per_day: int | None, until: datetime | None
) -> DeclaredUse:
    """Register a use that an account declared and a person granted; ends a verification that was asked for.

    `NotFound` for an unknown account, `InvalidValue` for a use without words or a cap below 1.
    """
    accounts.get(connection, account)
    if not use.strip():
        raise InvalidValue("a declared use needs words: say what the account does, as it would tell an auditor")
    if cap_per_day is not None and cap_per_day < 1:
        raise InvalidValue(f"cap_per_day is {cap_per_day}: it must be at least 1 request a day")
    row = DeclaredUse(uuid7(), account, use, cap_per_day, until, now(), actor)
    connection.execute(sa.insert(table).values(**vars(row)))
    after = {"use": row.id, "cap_per_day": cap_per_day, "until": until}
    audit.record(connection, actor, "use.declare", account, after=after)
    asked = enforcement.in_force(connection, [account]).get(account)
    if row.holds(row.created) and asked is not None and asked.action == "verify":
        enforcement.clear(connection, account, actor, f"declared use {row.id} was granted")
    return row


def revoke(connection: sa.Connection, use_id: str, actor: str, note: str) -> DeclaredUse:
    """End a declared use now; `NotFound` for an unknown one, `Forbidden` for one that has ended."""
    row = connection.execute(sa.select(table).where(table.c.id == use_id)).one_or_none()
    if row is None:
        raise NotFound(f"no declared use has the id {use_id!r}: `spiritsafe accounts uses` shows those there are")
    use, moment = DeclaredUse(**row._mapping), now()
    if not use.holds(moment):
        raise Forbidden(f"the declared use {use_id} has ended already, so there is nothing to revoke")
    connection.execute(sa.update(table).where(table.c.id == use_id).values(revoked=moment))
    before = {"use": use.id, "cap_per_day": use.cap_per_day, "until": use.until}
    audit.record(connection, actor, "use.revoke", use.account, before=before, reason=note)
    return replace(use, revoked=moment)


def of_account(connection: sa.Connection, account: str) -> list[DeclaredUse]:
    """Return an account's declared uses, oldest first, those that have ended included."""
    query = sa.select(table).where(table.c.account == account).order_by(table.c.created)
    return [DeclaredUse(**row._mapping) for row in connection.execute(query)]


def every(connection: sa.Connection) -> dict[str, list[DeclaredUse]]:
    """Return all uses by account, those that have ended included."""
    found: dict[str, list[DeclaredUse]] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.created)):
        found.setdefault(row.account, []).append(DeclaredUse(**row._mapping))
    return found
