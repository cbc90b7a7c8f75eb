"""API keys: shown once, stored as a keyed hash (BLAKE2b with the installation's secret: RFC 7693), bounded by a scope.

A key ends by revocation, which workers learn within a second, or at `expires`, which they compare at each request.
Rotation makes a successor with the same scope and limits; both are accepted until the old one's grace is over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway.ledger import accounts, audit, secret
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound, SecretLost
from gateway.ledger.identifiers import now, to_rfc3339, uuid7

PREFIX = "sk-safe-"
GRACE = timedelta(hours=24)
LONGEST = timedelta(days=3660)
ENDPOINTS = ("chat.completions", "completions", "embeddings", "responses", "messages")

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
    sa.Column("expires", UtcTime),
    sa.Column("scope", Json),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("secret_name", sa.String),
)


@dataclass(frozen=True)
class Scope:
    """What a key may do. None and False bound nothing and allow nothing beyond OpenAI's API, as for a key without one.

    `models` are names as callers write them; a student's name stands for all its versions. `maximum_output` is in
    tokens a choice. `extensions` allows the parameters that give away more than OpenAI's API does.
    """

    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    maximum_output: int | None = None
    extensions: bool = False

    def check(self) -> None:
        """Raise `InvalidValue` with the remedy for a scope that nobody can mean."""
        if self.models is not None and not all(self.models):
            raise InvalidValue("a model of a scope has no name: `spiritsafe models list` shows those there are")
        unknown = sorted(set(self.endpoints or ()) - set(ENDPOINTS))
        if unknown:
            raise InvalidValue(f"no endpoint is called {unknown[0]!r}: choose from {', '.join(ENDPOINTS)}")
        if () in (self.models, self.endpoints):
            raise InvalidValue("a scope without any model or endpoint would allow nothing: leave it out to allow all")
        if self.maximum_output is not None and self.maximum_output < 1:
            raise InvalidValue(f"a maximum output of {self.maximum_output} tokens allows no answer: give 1 or more")


@dataclass(frozen=True)
class Key:
    """A key's row. `hint` is its last four characters; `requests_per_minute` None means no limit.

    `family` is the id of the first key of a line of rotations: what is counted by key is counted by it, so that a
    rotation neither resets nor doubles an allowance. `secret_name` is that of the secret it was hashed with (None: made
    before there were names).
    """

    id: str
    account: str
    hash: bytes
    hint: str
    created: datetime
    revoked: datetime | None = None
    requests_per_minute: int | None = None
    expires: datetime | None = None
    scope: Scope = field(default_factory=Scope)
    family: str = ""
    secret_name: str | None = None

    def is_over(self, moment: datetime) -> bool:
        """Has its end passed?"""
        return self.expires is not None and moment >= self.expires


def hash_key(pepper: bytes, key: str) -> bytes:
    """Return the keyed hash under which a key is stored (16 bytes)."""
    return hashlib.blake2b(key.encode(), key=pepper, digest_size=16).digest()


def ensure_secret(connection: sa.Connection, data_dir: Path) -> bytes:
    """Return the installation's secret, made where there is none and no key needs one.

    `SecretLost` when it is missing and keys need it, or is not the one they were hashed with: serving would then answer
    every key with 401.
    """
    path = secret.path_of(data_dir)
    needed = [key for key in every(connection) if key.revoked is None and not key.is_over(now())]
    # Looked for again after the keys, because who makes the first key makes the secret before it.
    if not needed and not path.exists():
        secret.make(data_dir)
    found = secret.read(data_dir)
    strange = [key for key in needed if key.secret_name not in (None, secret.name_of(found))]
    if strange:
        raise SecretLost(
            f"{path} is not the secret that key {strange[0].id} and {len(strange) - 1} others were made with: "
            f"{secret.REMEDY}"
        )
    return found


def create(
    connection: sa.Connection,
    pepper: bytes,
    account: str,
    actor: str,
    requests_per_minute: int | None = None,
    *,
    scope: Scope | None = None,
    expires: datetime | None = None,
) -> tuple[Key, str]:
    """Make a key for an account and return its row and the key itself, which is stored nowhere."""
    accounts.get(connection, account)
    moment, scope = now(), scope or Scope()
    scope.check()
    _check_end(expires, moment)
    identifier = uuid7()
    key, text = _made(pepper, Key(identifier, account, b"", "", moment, None, requests_per_minute, expires, scope))
    key = dataclasses.replace(key, family=identifier)
    _insert(connection, key)
    after = {"requests_per_minute": requests_per_minute, "scope": _bounds(scope), "expires": expires}
    audit.record(connection, actor, "key.create", account, after=after, key=key.id)
    return key, text


def rotate(
    connection: sa.Connection, pepper: bytes, key_id: str, actor: str, grace: timedelta = GRACE
) -> tuple[Key, str]:
    """Make a key's successor; the old key ends after `grace`, or sooner where that was its end already.

    The successor has the old one's account, scope and limits, and its end where it had one. `Forbidden` for a key that
    has ended or has a successor.
    """
    moment = now()
    old = _living(connection, key_id, moment)
    successor = sa.select(table.c.id).where(table.c.family == old.family, table.c.id > old.id)
    if (newer := connection.execute(successor.order_by(table.c.id.desc())).scalars().first()) is not None:
        raise Forbidden(f"key {key_id} was rotated already: rotate its successor {newer}")
    end = moment + grace
    _check_end(end, moment)
    last = end if old.expires is None else min(end, old.expires)
    _set(connection, key_id, expires=last)
    key, text = _made(pepper, dataclasses.replace(old, id=uuid7(), created=moment))
    _insert(connection, key)
    before, after = {"expires": old.expires}, {"expires": last}
    audit.record(connection, actor, "key.rotate", old.account, before=before, after=after, key=old.id, successor=key.id)
    return key, text


def end_of(within: timedelta | None, at: datetime | None) -> datetime:
    """Return the moment that is `at`, or `within` from now; `InvalidValue` unless one of them is given."""
    if within is not None and at is None:
        return now() + within
    if at is not None and within is None:
        return at
    raise InvalidValue("say when the key is to end by one of two: `in` (a length of time) or `at` (a moment)")


def expire(connection: sa.Connection, key_id: str, end: datetime, actor: str) -> Key:
    """Let a key end at a moment to come, sooner or later than before; `Forbidden` for one that has ended."""
    moment = now()
    old = _living(connection, key_id, moment)
    _check_end(end, moment)
    _set(connection, key_id, expires=end)
    before, after = {"expires": old.expires}, {"expires": end}
    audit.record(connection, actor, "key.expire", old.account, before=before, after=after, key=key_id)
    return get(connection, key_id)


def revoke(connection: sa.Connection, key_id: str, actor: str) -> Key:
    """End a key now; `NotFound` when there is no such id. Revoking twice keeps the first time."""
    key = get(connection, key_id)
    if key.revoked is None:
        moment = now()
        _set(connection, key_id, revoked=moment)
        before, after = {"revoked": None}, {"revoked": moment}
        audit.record(connection, actor, "key.revoke", key.account, before=before, after=after, key=key_id)
    return get(connection, key_id)


def get(connection: sa.Connection, key_id: str) -> Key:
    """Return the key of that id; `NotFound` when there is none."""
    row = connection.execute(sa.select(table).where(table.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"no key has the id {key_id!r}: `spiritsafe keys list` shows those there are")
    return _key(row)


def every(connection: sa.Connection, account: str | None = None) -> list[Key]:
    """Return all keys, of one account where it is given, oldest first; revoked ones included."""
    query = sa.select(table).order_by(table.c.created, table.c.id)
    if account is not None:
        query = query.where(table.c.account == account)
    return [_key(row) for row in connection.execute(query)]


def _living(connection: sa.Connection, key_id: str, moment: datetime) -> Key:
    key = get(connection, key_id)
    if key.revoked is not None or key.is_over(moment):
        raise Forbidden(f"key {key_id} has ended and stays so: `spiritsafe keys create` makes another")
    return key


def _check_end(end: datetime | None, moment: datetime) -> None:
    if end is not None and not moment < end <= moment + LONGEST:
        raise InvalidValue(
            f"a key can't end on {to_rfc3339(end)}: name a moment to come, at most ten years ahead; "
            "`spiritsafe keys revoke` ends a key now"
        )


def _made(pepper: bytes, key: Key) -> tuple[Key, str]:
    """Return the key with the hash and hint of a new text, and the text."""
    text = PREFIX + secrets.token_urlsafe(32)
    made = dataclasses.replace(key, hash=hash_key(pepper, text), hint=text[-4:], secret_name=secret.name_of(pepper))
    return made, text


def _insert(connection: sa.Connection, key: Key) -> None:
    connection.execute(sa.insert(table).values(**vars(key) | {"scope": _bounds(key.scope)}))


def _bounds(scope: Scope) -> dict[str, Any] | None:
    """Return what is stored of a scope: its bounds, None where it has none."""
    return {name: value for name, value in vars(scope).items() if value} or None


def _set(connection: sa.Connection, key_id: str, **values: datetime) -> None:
    connection.execute(sa.update(table).where(table.c.id == key_id).values(**values))


def _key(row: sa.Row[Any]) -> Key:
    stored: dict[str, Any] = row.scope or {}
    bounds: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in stored.items()}
    return Key(**{**row._mapping, "scope": Scope(**bounds)})
