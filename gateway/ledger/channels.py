"""Channels of notifications: how far each has told what happened, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import alert_events
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.identifiers import now

table = sa.Table(
    "channels",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("upto", sa.BigInteger),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", UtcTime, nullable=False),
    sa.Column("error", sa.String),
    sa.Column("sent", UtcTime),
)


@dataclass(frozen=True)
class Channel:
    """A channel has told the events up to `position`.

    A message about those up to `upto` is under way or failed `attempts` times, and nobody takes it before `due`.
    """

    name: str
    position: int
    upto: int | None
    attempts: int
    due: datetime
    error: str | None
    sent: datetime | None


def get(connection: sa.Connection, name: str) -> Channel | None:
    """Return a channel's state, None before its first use."""
    row = connection.execute(sa.select(table).where(table.c.name == name)).one_or_none()
    return None if row is None else Channel(**row._mapping)


def begin(connection: sa.Connection, name: str) -> Channel:
    """Make a channel that tells what happens from now on, or return the one there is."""
    known = get(connection, name)
    if known is not None:
        return known
    channel = Channel(name, alert_events.newest(connection), None, 0, now(), None, None)
    connection.execute(sa.insert(table).values(**vars(channel)))
    return channel


def claim(connection: sa.Connection, channel: Channel, upto: int, until: datetime) -> bool:
    """Take the message about the events up to a number; False when another process has taken or sent it."""
    same = sa.and_(
        table.c.name == channel.name,
        table.c.position == channel.position,
        table.c.attempts == channel.attempts,
        table.c.due <= now(),
    )
    return connection.execute(sa.update(table).where(same).values(upto=upto, due=until)).rowcount == 1


def passed(connection: sa.Connection, name: str, upto: int, *, sent: bool) -> None:
    """Note that a channel has told all up to a number, or that there was nothing to tell of it."""
    values = {"position": upto, "upto": None, "attempts": 0, "due": now(), "error": None}
    connection.execute(
        sa.update(table).where(table.c.name == name).values(**values, **({"sent": now()} if sent else {}))
    )


def failed(connection: sa.Connection, channel: Channel, error: str, due: datetime) -> None:
    """Note that a message did not get through, why, and when to try again."""
    values = {"attempts": channel.attempts + 1, "due": due, "error": error[:500]}
    connection.execute(sa.update(table).where(table.c.name == channel.name).values(**values))


def every(connection: sa.Connection) -> list[Channel]:
    """Return all channels by name."""
    return [Channel(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.name))]
