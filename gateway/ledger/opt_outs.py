"""End users who are not to be learnt from, as the account that they belong to named them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import accounts, audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import now

table = sa.Table(
    "opt_outs",
    metadata,
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
    sa.Column("user", sa.String, primary_key=True),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
)


@dataclass(frozen=True)
class OptOut:
    """That an account's end user (the `user` of its requests) is out of training since then."""

    account: str
    user: str
    time: datetime
    actor: str


def put(connection: sa.Connection, account: str, user: str, actor: str) -> OptOut:
    """Take an end user out of training from now on; the first word stands. `NotFound` for an unknown account."""
    accounts.get(connection, account)
    if not user:
        raise InvalidValue("name the end user as the account's requests do, in their field `user`")
    known = find(connection, account, user)
    if known is not None:
        return known
    opt_out = OptOut(account, user, now(), actor)
    connection.execute(sa.insert(table).values(**vars(opt_out)))
    # The audit log outlives the account, so it says that somebody opted out and not who.
    audit.record(connection, actor, "user.opt_out", account)
    return opt_out


def lift(connection: sa.Connection, account: str, user: str, actor: str) -> bool:
    """Let an end user back in; says whether it had opted out."""
    where = sa.and_(table.c.account == account, table.c.user == user)
    lifted = bool(connection.execute(sa.delete(table).where(where)).rowcount)
    if lifted:
        audit.record(connection, actor, "user.opt_in", account)
    return lifted


def find(connection: sa.Connection, account: str, user: str) -> OptOut | None:
    """Return an end user's opt-out, or None."""
    where = sa.and_(table.c.account == account, table.c.user == user)
    row = connection.execute(sa.select(table).where(where)).one_or_none()
    return None if row is None else OptOut(**row._mapping)


def every(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """Return every (account, user) that is out of training."""
    rows = connection.execute(sa.select(table.c.account, table.c.user))
    return frozenset((row.account, row.user) for row in rows)
