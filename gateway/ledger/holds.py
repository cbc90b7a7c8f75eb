"""Legal holds: while one stands, nothing of the account is erased, by request or by age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import AlreadyExists, Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, uuid7

table = sa.Table(
    "holds",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, nullable=False, index=True),
    sa.Column("operator", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("placed", UtcTime, nullable=False),
    sa.Column("released", UtcTime),
)


@dataclass(frozen=True)
class Hold:
    """A person's order to keep what there is of an account, from `placed` until `released`."""

    id: str
    account: str
    operator: str
    note: str
    placed: datetime
    released: datetime | None = None


def place(connection: sa.Connection, account: str, operator: str, note: str) -> Hold:
    """Put an account on hold; `AlreadyExists` when it is, `InvalidValue` without a note."""
    if not note.strip():
        raise InvalidValue("a hold needs a note: say in a sentence which case it is for, an audit will read it")
    standing = find(connection, account)
    if standing is not None:
        raise AlreadyExists(f"{account!r} is on hold already, by {standing.operator}: release it first to change it")
    hold = Hold(uuid7(), account, operator, note, now())
    connection.execute(sa.insert(table).values(**vars(hold)))
    audit.record(connection, operator, "account.hold", account, before={"hold": None}, after={"hold": hold.id})
    return hold


def release(connection: sa.Connection, account: str, operator: str) -> Hold:
    """End an account's hold; `NotFound` when none stands."""
    hold = find(connection, account)
    if hold is None:
        raise NotFound(f"{account!r} is not on hold: `spiritsafe accounts list` shows which accounts are")
    connection.execute(sa.update(table).where(table.c.id == hold.id).values(released=now()))
    audit.record(connection, operator, "account.release", account, before={"hold": hold.id}, after={"hold": None})
    return hold


def find(connection: sa.Connection, account: str) -> Hold | None:
    """Return the hold that stands on an account, or None."""
    return in_force(connection).get(account)


def in_force(connection: sa.Connection) -> dict[str, Hold]:
    """Return, by account, the holds that stand."""
    rows = connection.execute(sa.select(table).where(table.c.released.is_(None)))
    return {row.account: Hold(**row._mapping) for row in rows}


def check(connection: sa.Connection, account: str) -> None:
    """Raise `Forbidden` while a hold stands on the account."""
    hold = find(connection, account)
    if hold is not None:
        raise refusal(hold)


def refusal(hold: Hold) -> Forbidden:
    """Return what says that a hold stands."""
    return Forbidden(
        f"{hold.account!r} is on legal hold {hold.id} since {hold.placed:%Y-%m-%d}, by {hold.operator}: nothing of it "
        f"is erased until `spiritsafe accounts release {hold.account}`"
    )
