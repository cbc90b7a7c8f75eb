"""Limits: what an account, a key or a model may use, set by people. None means that this quantity has no limit.

An account's limit counts the requests of all its keys, a model's limit those of all accounts. Every limit that applies
to a request binds; the smallest `max_output` wins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from gateway.ledger import accounts, audit, keys, registry
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.identifiers import now

Subject = Literal["account", "key", "model"]
SUBJECTS: tuple[Subject, ...] = ("account", "key", "model")
QUANTITIES = ("rpm", "tpm", "parallel", "usd_day", "usd_month", "max_output", "weight")
LANES = ("interactive", "batch")
MOST = 10**9  # of a rate: the minute is divided into nanoseconds
MOST_MONEY = (
    2**53 - 1
)  # nano-dollars, about nine million dollars: what a double holds exactly, as Valkey's scripts count

table = sa.Table(
    "limits",
    metadata,
    sa.Column("subject", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("rpm", sa.Integer),
    sa.Column("tpm", sa.Integer),
    sa.Column("parallel", sa.Integer),
    sa.Column("usd_day", sa.BigInteger),
    sa.Column("usd_month", sa.BigInteger),
    sa.Column("max_output", sa.Integer),
    sa.Column("weight", sa.Integer),
    sa.Column("lane", sa.String),
    sa.Column("updated", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class Limit:
    """The limits of one subject; `name` is an account's or a model's name, or the id of a key (of the first,
    where keys were rotated).

    `rpm`, `tpm`: requests and tokens per minute. `parallel`: requests in flight. `usd_day`, `usd_month`: nano-dollars
    in a day and a month of the calendar, UTC. `max_output`: tokens of one answer. `weight`, `lane`: the share of a full
    house, and whether it waits as `interactive` or as `batch`.
    """

    subject: Subject
    name: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    usd_day: int | None = None
    usd_month: int | None = None
    max_output: int | None = None
    weight: int | None = None
    lane: str | None = None
    updated: datetime | None = None

    def values(self) -> dict[str, int | str | None]:
        """Return what is limited, by quantity."""
        return {name: getattr(self, name) for name in (*QUANTITIES, "lane")}


Change = Mapping[str, int | str | None]
Limits = dict[tuple[str, str], Limit]  # by subject and name


def assign(
    connection: sa.Connection, subject: Subject, name: str, change: Change, actor: str, models: Collection[str] = ()
) -> Limit:
    """Change the quantities that are named (None: no limit any more) and leave the others.

    `models` are the names of the base models, which the settings declare. Raises `NotFound` for an unknown subject and
    `InvalidValue` for what no limit can be.
    """
    name = _known_name(connection, subject, name, models)
    _check_change(change)
    found = find(connection, subject, name) or Limit(subject, name)
    changed = replace(found, **change, updated=now())  # type: ignore[arg-type]  # `_check_change` has seen the names
    _delete(connection, subject, name)
    if any(value is not None for value in changed.values().values()):
        connection.execute(sa.insert(table).values(**vars(changed)))
    old, new = found.values(), changed.values()
    before, after = ({quantity: values[quantity] for quantity in change} for values in (old, new))
    audit.record(connection, actor, "limits.set", f"{subject}:{name}", before=before, after=after)
    return changed


def clear(connection: sa.Connection, subject: Subject, name: str, actor: str) -> None:
    """End all limits of a subject; `NotFound` when it has none."""
    kept_under = _family(connection, name) or name if subject == "key" else name
    found = find(connection, subject, kept_under)
    if found is None:
        raise NotFound(f"{subject} {name!r} has no limits: `spiritsafe limits list` shows those there are")
    _delete(connection, subject, kept_under)
    before = {quantity: value for quantity, value in found.values().items() if value is not None}
    audit.record(connection, actor, "limits.clear", f"{subject}:{name}", before=before)


def find(connection: sa.Connection, subject: Subject, name: str) -> Limit | None:
    """Return the limits of a subject, or None."""
    row = connection.execute(sa.select(table).where(table.c.subject == subject, table.c.name == name)).one_or_none()
    return None if row is None else Limit(**row._mapping)


def every(connection: sa.Connection) -> list[Limit]:
    """Return all limits by subject and name."""
    return [
        Limit(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.subject, table.c.name))
    ]


def in_force(connection: sa.Connection, known_keys: Iterable[keys.Key]) -> Limits:
    """Return what binds, by subject and name: the limits, and the requests per minute that keys were made with."""
    found: Limits = {(limit.subject, limit.name): limit for limit in every(connection)}
    for key in known_keys:
        if key.requests_per_minute is not None:
            limit = found.get(("key", key.family)) or Limit("key", key.family)
            rpm = min(key.requests_per_minute, limit.rpm or key.requests_per_minute)
            found["key", key.family] = replace(limit, rpm=rpm)
    return found


def _delete(connection: sa.Connection, subject: Subject, name: str) -> None:
    connection.execute(sa.delete(table).where(table.c.subject == subject, table.c.name == name))


def _known_name(connection: sa.Connection, subject: Subject, name: str, models: Collection[str]) -> str:
    """Return the name that limits are kept under; `NotFound` for an unknown subject."""
    if subject == "account":
        accounts.get(connection, name)
    elif subject == "key":
        family = _family(connection, name)
        if family is None:
            raise NotFound(f"no key has the id {name!r}: `spiritsafe keys list` shows those there are")
        return family
    elif name not in models and "@" not in name:
        raise NotFound(f"no model is called {name!r}: name one of the settings, or a student as NAME@VERSION")
    elif name not in models:
        registry.get(connection, name)
    return name


def _family(connection: sa.Connection, key_id: str) -> str | None:
    """Return the first key of a key's line of rotations, which share their limits; None for an unknown key."""
    return connection.execute(sa.select(keys.table.c.family).where(keys.table.c.id == key_id)).scalar_one_or_none()


def _check_change(change: Change) -> None:
    for name, value in change.items():
        if name == "lane":
            if value is not None and value not in LANES:
                raise InvalidValue(f"lane is {value!r}: choose one of {', '.join(LANES)}")
            continue
        if name not in QUANTITIES:
            raise InvalidValue(f"{name!r} can't be limited: choose of {', '.join(QUANTITIES)}")
        most = MOST_MONEY if name.startswith("usd") else MOST
        if value is not None and not (isinstance(value, int) and 1 <= value <= most):
            raise InvalidValue(f"{name} is {value!r}: it must be between 1 and {most}, or none for no limit")
