"""Accounts: who calls the gateway, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.engines import contains
from gateway.ledger.errors import AlreadyExists, InvalidValue, NotFound
from gateway.ledger.identifiers import now

table = sa.Table(
    "accounts",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("tier", sa.String, nullable=False),
    sa.Column("operator", sa.Boolean, nullable=False),
    sa.Column("payment", sa.String),
    sa.Column("signup_network", sa.String),
    sa.Column("labels", Json),
    sa.Column("keep_text", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("divert_named", sa.Boolean, nullable=False, server_default=sa.false()),
)


@dataclass(frozen=True)
class Account:
    """An account. `operator` accounts may call candidates; `labels` serve evaluation only: the detector reads none.

    `keep_text` false is zero retention: no prompt and no answer of its requests reaches a disk. `divert_named`: its
    contract allows that a student answers, under its own name, where a teacher was named.
    """

    name: str
    created: datetime
    tier: str = "default"
    operator: bool = False
    payment: str | None = None
    signup_network: str | None = None
    labels: dict[str, Any] | None = None
    keep_text: bool = True
    divert_named: bool = False


def create(connection: sa.Connection, account: Account, actor: str) -> Account:
    """Insert an account; `AlreadyExists` when the name is taken, `InvalidValue` when it is no usable name."""
    if not account.name or len(account.name) > 128 or any(character.isspace() for character in account.name):
        raise InvalidValue(f"{account.name!r} can't be an account's name: use 1 to 128 characters without spaces")
    if find(connection, account.name) is not None:
        raise AlreadyExists(f"account {account.name!r} exists already: choose another name, or create a key for it")
    connection.execute(sa.insert(table).values(**vars(account)))
    after = {"tier": account.tier, "operator": account.operator}
    audit.record(connection, actor, "account.create", account.name, after=after)
    return account


def new(name: str, *, tier: str = "default", operator: bool = False) -> Account:
    """Make an account that begins now."""
    return Account(name, now(), tier, operator)


def find(connection: sa.Connection, name: str) -> Account | None:
    """Return the account of that name, or None."""
    row = connection.execute(sa.select(table).where(table.c.name == name)).one_or_none()
    return None if row is None else Account(**row._mapping)


def get(connection: sa.Connection, name: str) -> Account:
    """Return the account of that name; `NotFound` with the remedy when there is none."""
    account = find(connection, name)
    if account is None:
        raise NotFound(f"no account is called {name!r}: `spiritsafe accounts list` shows those there are")
    return account


def set_keep_text(connection: sa.Connection, name: str, keep_text: bool, actor: str) -> Account:
    """Keep the texts of an account's requests from now on, or none (zero retention)."""
    before, after = {"keep_text": get(connection, name).keep_text}, {"keep_text": keep_text}
    connection.execute(sa.update(table).where(table.c.name == name).values(after))
    audit.record(connection, actor, "account.keep_text", name, before=before, after=after)
    return get(connection, name)


def set_divert_named(connection: sa.Connection, name: str, allowed: bool, actor: str) -> Account:
    """Note whether an account's contract lets a diversion reach the models that it names."""
    before, after = {"divert_named": get(connection, name).divert_named}, {"divert_named": allowed}
    connection.execute(sa.update(table).where(table.c.name == name).values(after))
    audit.record(connection, actor, "account.contract", name, before=before, after=after)
    return get(connection, name)


def named(connection: sa.Connection, names: Sequence[str]) -> dict[str, Account]:
    """Return, by name, those accounts of some names that there are."""
    rows = connection.execute(sa.select(table).where(table.c.name.in_(names)))
    return {row.name: Account(**row._mapping) for row in rows}


def names_after(connection: sa.Connection, name: str, limit: int, text: str = "") -> list[str]:
    """Return the first accounts' names that come after one, with a text in them where one is given.

    Names alone are read from the index, which of a million takes a third of what rows would.
    """
    query = sa.select(table.c.name).where(table.c.name > name).order_by(table.c.name).limit(limit)
    if text:
        query = query.where(contains(connection, table.c.name, text))
    return list(connection.execute(query).scalars())


def count(connection: sa.Connection) -> int:
    """Return how many accounts there are."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def every(connection: sa.Connection) -> list[Account]:
    """Return all accounts by name."""
    return [Account(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.name))]
