"""Enforcement: what people decided about accounts; every row ends by itself or is cleared by a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from gateway.ledger import accounts, audit, registry
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now, uuid7

Action = Literal["divert", "suspend"]
DEFAULT_DURATION = timedelta(days=7)

table = sa.Table(
    "enforcement",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("until", UtcTime, nullable=False),
    sa.Column("operator", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("alert", sa.String),
    sa.Column("cleared", UtcTime),
)


@dataclass(frozen=True)
class Enforcement:
    """A measure against an account: `divert` sends its `auto` traffic to the student, `suspend` answers 403."""

    id: str
    account: str
    action: Action
    created: datetime
    until: datetime
    operator: str
    note: str
    alert: str | None = None
    cleared: datetime | None = None


def impose(
    connection: sa.Connection,
    account: str,
    action: Action,
    operator: str,
    note: str,
    duration: timedelta = DEFAULT_DURATION,
    alert: str | None = None,
) -> Enforcement:
    """Put a measure in force, replacing the one there is. `Forbidden` for a diversion while no student is promoted."""
    accounts.get(connection, account)
    if action == "divert" and not registry.in_state(connection, "promoted"):
        raise Forbidden(
            "no student is promoted, so there is nothing to divert to: promote one with `spiritsafe models promote`, "
            "or suspend the account instead"
        )
    start = now()
    before = _said(in_force(connection).get(account))
    _clear(connection, account, start)
    row = Enforcement(uuid7(), account, action, start, start + duration, operator, note, alert)
    connection.execute(sa.insert(table).values(**vars(row)))
    detail = {} if alert is None else {"alert": alert}
    after = _said(row)
    audit.record(connection, operator, f"enforce.{action}", account, before=before, after=after, reason=note, **detail)
    return row


def clear(connection: sa.Connection, account: str, operator: str, note: str) -> int:
    """End the measures in force against an account; returns how many there were."""
    accounts.get(connection, account)
    before = _said(in_force(connection).get(account))
    ended = _clear(connection, account, now())
    audit.record(connection, operator, "enforce.clear", account, before=before, reason=note)
    return ended


def in_force(connection: sa.Connection) -> dict[str, Enforcement]:
    """Return, by account, the measure in force now."""
    query = sa.select(table).where(table.c.cleared.is_(None), table.c.until > now()).order_by(table.c.created)
    return {row.account: Enforcement(**row._mapping) for row in connection.execute(query)}


def history(connection: sa.Connection, account: str | None = None) -> list[Enforcement]:
    """Return all measures ever imposed, newest first, of one account where it is given."""
    query = sa.select(table).order_by(table.c.created.desc())
    if account is not None:
        query = query.where(table.c.account == account)
    return [Enforcement(**row._mapping) for row in connection.execute(query)]


def _said(measure: Enforcement | None) -> dict[str, Any] | None:
    """Return what the audit log says of a measure."""
    return None if measure is None else {"action": measure.action, "until": measure.until}


def _clear(connection: sa.Connection, account: str, moment: datetime) -> int:
    open_rows = sa.and_(table.c.account == account, table.c.cleared.is_(None), table.c.until > moment)
    return connection.execute(sa.update(table).where(open_rows).values(cleared=moment)).rowcount
