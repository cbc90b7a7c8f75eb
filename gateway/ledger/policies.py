"""Policies: which alerts put a mild step in force before a person has looked; a person switches each one on.

Only `enforcement.AUTOMATIC` steps may be named here. A policy acts when an alert opens, or rises until it is met, once
an alert, and never on an account against which the same or more is in force: what people decide stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa

from gateway.ledger import accounts, audit, enforcement
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.enforcement import ACTIONS, AUTOMATIC, Action, Enforcement, Step
from gateway.ledger.errors import AlreadyExists, Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
MOST_SPREAD = timedelta(days=7)

table = sa.Table(
    "policies",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("score", sa.Float),
    sa.Column("leaked_tokens", sa.BigInteger),
    sa.Column("duration_s", sa.BigInteger, nullable=False),
    sa.Column("spread_s", sa.BigInteger, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("created_by", sa.String, nullable=False),
    sa.Column("switched", UtcTime),
    sa.Column("switched_by", sa.String),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Policy:
    """An alert of at least this severity, score and number of leaked tokens (None: any) calls for an action.

    `spread_s`: the step begins at a quarter of an hour within so many seconds, which nobody can foretell; 0: at once.
    It holds for `duration_s` from there. `switched` is when, and by whom, it was last switched on or off.
    """

    name: str
    action: Action
    severity: Severity
    score: float | None
    leaked_tokens: int | None
    duration_s: int
    spread_s: int
    enabled: bool
    created: datetime
    created_by: str
    switched: datetime | None
    switched_by: str | None
    note: str

    @property
    def step(self) -> Step:
        """What it takes."""
        return Step(self.action, timedelta(seconds=self.duration_s), spread=timedelta(seconds=self.spread_s))

    def is_met(self, severity: Severity, score: float, leaked_tokens: float) -> bool:
        """Does an alert with these figures call for it?"""
        return (
            SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)
            and score >= (self.score or 0.0)
            and leaked_tokens >= (self.leaked_tokens or 0)
        )


def create(
    connection: sa.Connection,
    name: str,
    action: Action,
    actor: str,
    note: str,
    *,
    severity: Severity = "high",
    score: float | None = None,
    leaked_tokens: int | None = None,
    duration: timedelta = enforcement.DEFAULT_DURATION,
    spread: timedelta = timedelta(hours=6),
) -> Policy:
    """Write a policy down, switched off; `Forbidden` for a step that is never automatic."""
    enforcement.check_automatic(action)
    _check(name, note, severity, score, leaked_tokens, spread)
    if find(connection, name) is not None:
        raise AlreadyExists(f"policy {name!r} exists already: choose another name")
    row = Policy(
        name, action, severity, score, leaked_tokens, round(duration.total_seconds()), round(spread.total_seconds()),
        enabled=False, created=now(), created_by=actor, switched=None, switched_by=None, note=note,
    )  # fmt: skip
    connection.execute(sa.insert(table).values(**vars(row)))
    audit.record(connection, actor, "policy.create", f"policy:{name}", after=_said(row), reason=note)
    return row


def switch(connection: sa.Connection, name: str, on: bool, actor: str, note: str) -> Policy:
    """Switch a policy on or off; what it has put in force stays until it ends or is undone."""
    policy = get(connection, name)
    enforcement.check_automatic(policy.action)
    if not note.strip():
        raise InvalidValue("switching a policy needs a note: say why in a sentence, it is what an audit will read")
    if policy.enabled is on:
        raise Forbidden(f"policy {name!r} is switched {'on' if on else 'off'} already")
    changed = replace(policy, enabled=on, switched=now(), switched_by=actor)
    connection.execute(sa.update(table).where(table.c.name == name).values(**vars(changed)))
    before, after = {"enabled": policy.enabled}, {"enabled": on}
    action = "policy.enable" if on else "policy.disable"
    audit.record(connection, actor, action, f"policy:{name}", before=before, after=after, reason=note)
    return changed


def apply(
    connection: sa.Connection,
    alert: str,
    names: Sequence[str],
    severity: Severity,
    score: float,
    leaked_tokens: float,
) -> list[Enforcement]:
    """Take the furthest step that a policy which is switched on wants for an alert, against accounts not under it yet.

    For whoever raises alerts, in the transaction that writes the alert. All accounts that are hit are one decision.
    """
    met = [policy for policy in enabled(connection) if policy.is_met(severity, score, leaked_tokens)]
    if not met:
        return []
    policy = max(met, key=lambda policy: ACTIONS.index(policy.action))
    if enforcement.was_applied(connection, policy.name, alert):
        return []
    measures = enforcement.in_force(connection, list(names))
    known = [name for name in names if accounts.find(connection, name) is not None]
    hit = [name for name in known if name not in measures or _is_milder(measures[name], policy)]
    if not hit:
        return []
    note = f"policy {policy.name}: {policy.note}"
    return enforcement.take(connection, hit, policy.step, f"policy:{policy.name}", note, alert, policy.name)


def enabled(connection: sa.Connection) -> list[Policy]:
    """Return the policies that are switched on; a row that names more than it may, by whatever hand, is none."""
    return [policy for policy in every(connection) if policy.enabled and policy.action in AUTOMATIC]


def every(connection: sa.Connection) -> list[Policy]:
    """Return all policies by name."""
    return [Policy(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.name))]


def find(connection: sa.Connection, name: str) -> Policy | None:
    """Return the policy of that name, or None."""
    row = connection.execute(sa.select(table).where(table.c.name == name)).one_or_none()
    return None if row is None else Policy(**row._mapping)


def get(connection: sa.Connection, name: str) -> Policy:
    """Return the policy of that name; `NotFound` with the remedy when there is none."""
    policy = find(connection, name)
    if policy is None:
        raise NotFound(f"no policy is called {name!r}: `spiritsafe policies list` shows those there are")
    return policy


def _is_milder(measure: Enforcement, policy: Policy) -> bool:
    return ACTIONS.index(measure.action) < ACTIONS.index(policy.action)


def _check(
    name: str, note: str, severity: str, score: float | None, leaked_tokens: int | None, spread: timedelta
) -> None:
    if not name or len(name) > 64 or any(character.isspace() or character == "/" for character in name):
        raise InvalidValue(f"{name!r} can't be a policy's name: use 1 to 64 characters without spaces and slashes")
    if not note.strip():
        raise InvalidValue("a policy needs a note: say in a sentence what it is for, it is what an audit will read")
    if severity not in SEVERITIES:
        raise InvalidValue(f"severity is {severity!r}: choose one of {', '.join(SEVERITIES)}")
    if score is not None and not 0 <= score <= 1:
        raise InvalidValue(f"score is {score}: it must be between 0 and 1")
    if leaked_tokens is not None and leaked_tokens < 1:
        raise InvalidValue(f"leaked_tokens is {leaked_tokens}: it must be at least 1")
    enforcement.check_spread(spread)
    if spread > MOST_SPREAD:
        raise InvalidValue("a policy's step begins within 7 days at most: choose a shorter spread")


def _said(policy: Policy) -> dict[str, Any]:
    """Return what the audit log says of a policy."""
    left_out = {"name", "created", "created_by", "switched", "switched_by", "note"}
    return {name: value for name, value in asdict(policy).items() if name not in left_out}
