"""Canaries: accounts of our own that harvest now and then, so that it is known that alerts still come.

What a canary does is nobody's use: its alerts are closed as they come, its rows train no student. Only a new account
can become one, because whoever is one is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import accounts, audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now

table = sa.Table(
    "canaries",
    metadata,
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("ran", UtcTime),
    sa.Column("found", UtcTime),
    sa.Column("requests", sa.Integer),
    sa.Column("seconds", sa.Float),
    sa.Column("problem", sa.String),
)


@dataclass(frozen=True)
class Canary:
    """A canary and its newest run: `ran` when it ended, `found` when one last ended well.

    `requests` and `seconds` are what passed before the alert of the newest run that was found; `problem` says why the
    newest run was not, None where it was.
    """

    account: str
    created: datetime
    ran: datetime | None = None
    found: datetime | None = None
    requests: int | None = None
    seconds: float | None = None
    problem: str | None = None


def ensure(connection: sa.Connection, account: str, actor: str) -> Canary:
    """Return the canary of that name, made with an account of its own where there is none.

    `Forbidden` where the account is somebody's: it would not be looked at any more.
    """
    known = [canary for canary in every(connection) if canary.account == account]
    if known:
        return known[0]
    if accounts.find(connection, account) is not None:
        raise Forbidden(f"{account!r} is an account already, and a canary's alerts are closed unseen: take a new name")
    accounts.create(connection, accounts.new(account), actor)
    canary = Canary(account, now())
    connection.execute(sa.insert(table).values(**vars(canary)))
    audit.record(connection, actor, "canary.create", account, after={"canary": True})
    return canary


def note_found(connection: sa.Connection, account: str, requests: int, seconds: float) -> Canary:
    """Note that a run's alert came after so many requests and seconds."""
    moment = now()
    return _put(connection, account, ran=moment, found=moment, requests=requests, seconds=seconds, problem=None)


def note_missed(connection: sa.Connection, account: str, problem: str) -> Canary:
    """Note that a run's alert did not come, and why as far as that is known."""
    return _put(connection, account, ran=now(), problem=problem)


def every(connection: sa.Connection) -> list[Canary]:
    """Return the canaries, by account."""
    return [Canary(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.account))]


def names(connection: sa.Connection) -> set[str]:
    """Return the accounts that are canaries."""
    return set(connection.execute(sa.select(table.c.account)).scalars())


def _put(connection: sa.Connection, account: str, **values: object) -> Canary:
    (canary,) = (known for known in every(connection) if known.account == account)
    connection.execute(sa.update(table).where(table.c.account == account).values(**values))
    return replace(canary, **values)  # type: ignore[arg-type]  # the columns are the fields
