"""API keys: shown once, stored as a keyed hash (BLAKE2b with a secret of the installation: RFC 7693)."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from gateway.ledger import accounts, audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Corrupt, NotFound
from gateway.ledger.identifiers import now, uuid7

PREFIX = "sk-safe-"

table = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("hint", sa.String, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("revoked", UtcTime),
    sa.Column("requests_per_minute", sa.Integer),
)


@dataclass(frozen=True)
class Key:
    """A key's row. `hint` is its last four characters; `requests_per_minute` None means no limit."""

    id: str
    account: str
    hash: bytes
    hint: str
    created: datetime
    revoked: datetime | None = None
    requests_per_minute: int | None = None


def installation_secret(data_dir: Path) -> bytes:
    """Return the 32-byte secret of this installation, made at first use with mode 0600."""
    path = data_dir / "secret"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make_secret(path)
    secret = path.read_bytes()
    if len(secret) != 32:
        raise Corrupt(f"{path} is not a 32-byte secret: restore it from a backup; without it no key is valid")
    return secret


def _make_secret(path: Path) -> None:
    # Written whole and then linked: of processes that start together one wins, and no other reads half a secret.
    draft = path.with_name(f".secret-{uuid7()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # Another process was first; its secret is the installation's.
    finally:
        draft.unlink()


def hash_key(secret: bytes, key: str) -> bytes:
    """Return the keyed hash under which a key is stored (16 bytes)."""
    return hashlib.blake2b(key.encode(), key=secret, digest_size=16).digest()


def create(
    connection: sa.Connection, secret: bytes, account: str, actor: str, requests_per_minute: int | None = None
) -> tuple[Key, str]:
    """Make a key for an account and return its row and the key itself, which is stored nowhere."""
    accounts.get(connection, account)
    text = PREFIX + secrets.token_urlsafe(32)
    key = Key(uuid7(), account, hash_key(secret, text), text[-4:], now(), None, requests_per_minute)
    connection.execute(sa.insert(table).values(**vars(key)))
    audit.record(connection, actor, "key.create", account, key=key.id)
    return key, text


def revoke(connection: sa.Connection, key_id: str, actor: str) -> Key:
    """End a key; `NotFound` when there is no such id. Revoking twice keeps the first time."""
    row = connection.execute(sa.select(table).where(table.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"no key has the id {key_id!r}: `spiritsafe keys list` shows those there are")
    if row.revoked is None:
        connection.execute(sa.update(table).where(table.c.id == key_id).values(revoked=now()))
        audit.record(connection, actor, "key.revoke", row.account, key=key_id)
    return Key(**connection.execute(sa.select(table).where(table.c.id == key_id)).one()._mapping)


def every(connection: sa.Connection, account: str | None = None) -> list[Key]:
    """Return all keys, of one account where it is given, oldest first; revoked ones included."""
    query = sa.select(table).order_by(table.c.created, table.c.id)
    if account is not None:
        query = query.where(table.c.account == account)
    return [Key(**row._mapping) for row in connection.execute(query)]
