"""Operators: the people who decide. A password for the console (argon2id: RFC 9106), a token for the admin API."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

import argon2
import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import AlreadyExists
from gateway.ledger.identifiers import now

TOKEN_PREFIX = "op-safe-"
HASHER = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)  # 64 MiB, about 50 ms

table = sa.Table(
    "operators",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("password_hash", sa.String, nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("created", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class Operator:
    """An operator; neither the password nor the token can be had from the row."""

    name: str
    password_hash: str
    token_hash: bytes
    created: datetime


def create(connection: sa.Connection, name: str, password: str, actor: str) -> tuple[Operator, str]:
    """Make an operator and return the row and the token for the admin API, which is shown once."""
    if connection.execute(sa.select(table).where(table.c.name == name)).one_or_none() is not None:
        raise AlreadyExists(f"operator {name!r} exists already: choose another name")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    operator = Operator(name, HASHER.hash(password), hash_token(token), now())
    connection.execute(sa.insert(table).values(**vars(operator)))
    audit.record(connection, actor, "operator.create", name, after={"created": operator.created})
    return operator, token


def hash_token(token: str) -> bytes:
    """Return the hash under which a token is stored; a token has 256 random bits, so a fast hash suffices."""
    return hashlib.sha256(token.encode()).digest()


def by_token(connection: sa.Connection, token: str) -> Operator | None:
    """Return the operator of an admin API token, or None."""
    row = connection.execute(sa.select(table).where(table.c.token_hash == hash_token(token))).one_or_none()
    return None if row is None else Operator(**row._mapping)


def by_password(connection: sa.Connection, name: str, password: str) -> Operator | None:
    """Return the operator of that name when the password is right, else None; takes as long for unknown names."""
    row = connection.execute(sa.select(table).where(table.c.name == name)).one_or_none()
    if row is None:
        HASHER.hash(password)  # As much work as a check, so that the time does not tell which names exist.
        return None
    try:
        HASHER.verify(row.password_hash, password)
    except argon2.exceptions.VerificationError:
        return None
    return Operator(**row._mapping)


def every(connection: sa.Connection) -> list[Operator]:
    """Return all operators by name."""
    return [Operator(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.name))]
