"""The audit log: who did what to whom, when, what it was before and after, and why; rows are only ever added.

Each row's hash is SHA-256 over its own content and the hash of the row before it, so that a row which is changed, taken
out or moved breaks the chain at its place. `audit_head` says where the log ends. The database refuses to change a row
(triggers); whoever removes those can still rewrite the whole chain, which only a hash kept elsewhere shows: `verify`
takes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger.database import Json, UtcTime, metadata, to_json
from gateway.ledger.engines import contains
from gateway.ledger.errors import Corrupt
from gateway.ledger.identifiers import now, to_rfc3339, uuid7

GENESIS = "0" * 64  # the hash before the first row

table = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("time", UtcTime, nullable=False, index=True),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("detail", Json, nullable=False),
    sa.Column("before", Json),
    sa.Column("after", Json),
    sa.Column("reason", sa.Text),
    sa.Column("hash", sa.String, nullable=False),
)
head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)
HASHED = tuple(column.name for column in table.columns if column is not table.c.hash)


@dataclass(frozen=True)
class AuditRow:
    """One action: `actor` is an operator's name or `cli:USER`, `subject` an account, alert, snapshot or student.

    `before` and `after` hold what the action changed, None where there was or is nothing; `detail` its circumstances.
    """

    number: int
    id: str
    time: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    hash: str

    @property
    def changes(self) -> list[tuple[str, Any, Any]]:
        """What was changed: its name, what it was and what it is."""
        old, new = self.before or {}, self.after or {}
        return [(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]


@dataclass(frozen=True)
class Fault:
    """What is wrong at a row's number; `text` says it with whose row it is, where the row is there."""

    number: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: how many rows there are, the newest one's number and hash, and every fault."""

    rows: int
    number: int
    hash: str
    faults: list[Fault] = field(default_factory=list)


def record(
    connection: sa.Connection,
    actor: str,
    action: str,
    subject: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
    **detail: Any,
) -> AuditRow:
    """Add a row inside the caller's write transaction, so that no decision exists without it."""
    # Locked, in case a transaction that is none of `Database.write` comes here: a chain must not fork.
    end = connection.execute(sa.select(head.c.number, head.c.hash).with_for_update()).one_or_none()
    if end is None:
        raise Corrupt("the audit log has lost its head: `spiritsafe audit verify` says what else is wrong with it")
    texts = {
        "detail": to_json(_plain(detail)),
        "before": None if before is None else to_json(_plain(before)),
        "after": None if after is None else to_json(_plain(after)),
    }
    moment = now()
    stored: dict[str, Any] = {
        "number": end.number + 1, "id": uuid7(), "time": UtcTime.milliseconds(moment), "actor": actor,
        "action": action, "subject": subject, **texts, "reason": reason or None,
    }  # fmt: skip
    documents = {name: None if text is None else json.loads(text) for name, text in texts.items()}
    row = AuditRow(**{**stored, **documents, "time": moment, "hash": _hash(end.hash, stored)})
    connection.execute(sa.insert(table).values(**vars(row)))
    connection.execute(sa.update(head).values(number=row.number, hash=row.hash))
    return row


def recent(
    connection: sa.Connection,
    limit: int = 100,
    subject: str | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[AuditRow]:
    """Return the newest rows first, of one subject, actor or action where it is given."""
    query = sa.select(table).order_by(table.c.number.desc()).limit(limit)
    for column, value in ((table.c.subject, subject), (table.c.actor, actor), (table.c.action, action)):
        if value is not None:
            query = query.where(column == value)
    return [AuditRow(**row._mapping) for row in connection.execute(query)]


def search(
    connection: sa.Connection,
    text: str = "",
    actor: str = "",
    kind: str = "",
    before: int | None = None,
    limit: int = 100,
    stretch: int = 20_000,
) -> tuple[list[AuditRow], int | None]:
    """Return the newest rows of an actor or kind of action with a text in them, and the number to go on from.

    `before` is that number of an earlier call. At most `stretch` rows are looked through at a time, so that what is
    rare, or not there, holds nobody up; the second value is None once the beginning is reached.
    """
    end = before if before is not None else int(connection.execute(sa.select(head.c.number)).scalar() or 0) + 1
    start = max(end - stretch, 1)
    query = sa.select(table).where(table.c.number < end, table.c.number >= start)
    query = query.order_by(table.c.number.desc()).limit(limit)
    if actor:
        query = query.where(table.c.actor == actor)
    if kind:
        query = query.where(table.c.action.startswith(f"{kind}.", autoescape=True))
    if text:
        query = query.where(_says(connection, text))
    rows = [AuditRow(**row._mapping) for row in connection.execute(query)]
    if len(rows) == limit:
        return rows, rows[-1].number if rows[-1].number > 1 else None
    return rows, start if start > 1 else None


def verify(connection: sa.Connection, expect: str | None = None) -> Verdict:
    """Hash every row again and compare it with its neighbours and the head; rows are read in bounded memory.

    `expect` is the hash that some row had at an earlier time, kept elsewhere: a fault where no row has it any more.
    """
    faults: list[Fault] = []
    rows, number, last, expected = 0, 0, GENESIS, expect in (None, GENESIS)
    for row in _stored(connection):
        rows += 1
        if row["number"] < 1:  # before the first row there is none
            faults.append(_changed(row))
            continue
        if row["number"] > number + 1:
            faults.append(_missing(number + 1, row["number"] - 1))
        elif _hash(last, row) != row["hash"]:
            faults.append(_changed(row))
        number, last = row["number"], row["hash"]
        expected = expected or last == expect
    faults += _faults_of_the_end(connection, number, last)
    if not expected:
        text = f"no row has the hash {expect}: rows were cut off at the end, or the log was written anew"
        faults.append(Fault(number, text))
    return Verdict(rows, number, last, faults)


def _says(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    stored = json.dumps(text)[1:-1]  # as it stands in a document
    words = [contains(connection, table.c[name], text) for name in ("actor", "action", "subject", "reason")]
    documents = [sa.type_coerce(table.c[name], sa.Text) for name in ("detail", "before", "after")]
    return sa.or_(*words, *(contains(connection, document, stored) for document in documents))


def _stored(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """Yield the rows as they are stored, documents as text, because a hash is over what is stored."""
    columns: list[sa.ColumnElement[Any]] = [
        sa.type_coerce(column, column.type.impl).label(column.name)
        if isinstance(column.type, sa.types.TypeDecorator)
        else column
        for column in table.columns
    ]
    result = connection.execute(sa.select(*columns).order_by(table.c.number), execution_options={"yield_per": 1000})
    for row in result.mappings():
        yield dict(row)


def _hash(previous: str, stored: Mapping[str, Any]) -> str:
    content = [previous, *(stored[name] for name in HASHED)]
    # `repr` for what only another hand can have stored, such as bytes: it is wrong then, whatever the hash.
    text = json.dumps(content, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _faults_of_the_end(connection: sa.Connection, number: int, last: str) -> list[Fault]:
    end = connection.execute(sa.select(head.c.number, head.c.hash)).one_or_none()
    if end is None:
        return [Fault(number, f"the head is missing, so that nobody knows whether row {number} is the last")]
    if end.number > number:
        return [_missing(number + 1, end.number)]
    if (end.number, end.hash) != (number, last):
        return [Fault(number, f"the log ends with row {number} ({last}) and its head says {end.number} ({end.hash})")]
    return []


def _missing(first: int, last: int) -> Fault:
    return Fault(first, f"row {first} is missing" if first == last else f"rows {first} to {last} are missing")


def _changed(row: Mapping[str, Any]) -> Fault:
    what = f"{row['actor']}, {row['action']}, {row['subject']}"
    return Fault(row["number"], f"row {row['number']} ({what}) is not what was written there: edited, added or moved")


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_rfc3339(value) if isinstance(value, datetime) else value for name, value in document.items()}
