"""Looking at prompts: a typed reason makes an audit row, and that row opens them to one person for ten minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from gateway.ledger import audit
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import now

OPEN_FOR = timedelta(minutes=10)
ACTION = "prompts.reveal"


@dataclass(frozen=True)
class Reveal:
    """A reveal in force: why, and until when."""

    id: str
    reason: str
    until: datetime


def ask(connection: Connection, operator: str, subject: str, place: str, records: Sequence[str], reason: str) -> str:
    """Record that an operator looks at records of a subject, and return the audit row's id; a reason is required."""
    if len(reason.split()) < 2:
        raise InvalidValue(
            "the prompts stay covered: say in a few words why you need to see them, an audit will read it"
        )
    row = audit.record(connection, operator, ACTION, subject, reason=reason.strip(), place=place, records=list(records))
    return row.id


def find(connection: Connection, operator: str, subject: str, place: str, reveal_id: str) -> Reveal | None:
    """Return this operator's reveal of that id and place while it is in force."""
    if not reveal_id:
        return None
    for row in audit.recent(connection, limit=500, subject=subject):
        mine = row.id == reveal_id and row.action == ACTION and row.actor == operator
        if mine and row.detail.get("place") == place and now() < row.time + OPEN_FOR:
            return Reveal(row.id, row.reason or "", row.time + OPEN_FOR)
    return None
