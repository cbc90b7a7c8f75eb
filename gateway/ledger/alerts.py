"""Alerts: what the detector suggests, and what a person decided about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa

from gateway.ledger import audit, enforcement
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, uuid7

Severity = Literal["low", "medium", "high"]
State = Literal["open", "confirmed", "dismissed"]
Decision = Literal["dismiss", "divert", "suspend"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

table = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("opened", UtcTime, nullable=False),
    sa.Column("updated", UtcTime, nullable=False),
    sa.Column("reasons", Json, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("decided", UtcTime),
    sa.Column("decision", sa.String),
    sa.Column("operator", sa.String),
    sa.Column("note", sa.String),
)


@dataclass(frozen=True)
class Alert:
    """A suspicion about one account.

    `reasons`: list of {feature, value, own_baseline, peer_median, text}. `evidence`: requests_before_alert,
    teacher_tokens_before_alert, requests, teacher_tokens, cost (nano-dollars), examples (list of record ids),
    daily (list of {day, requests, teacher_tokens}).
    """

    id: str
    account: str
    severity: Severity
    score: float
    state: State
    opened: datetime
    updated: datetime
    reasons: list[dict[str, Any]]
    evidence: dict[str, Any]
    decided: datetime | None = None
    decision: Decision | None = None
    operator: str | None = None
    note: str | None = None


def raise_or_update(
    connection: sa.Connection,
    account: str,
    severity: Severity,
    score: float,
    reasons: list[dict[str, Any]],
    evidence: dict[str, Any],
) -> tuple[Alert, bool]:
    """Open an alert, or bring the account's open one up to date (severity never falls); True when it is new."""
    moment = now()
    row = connection.execute(sa.select(table).where(table.c.account == account, table.c.state == "open")).one_or_none()
    if row is None:
        alert = Alert(uuid7(), account, severity, score, "open", moment, moment, reasons, evidence)
        connection.execute(sa.insert(table).values(**vars(alert)))
        return alert, True
    known = Alert(**row._mapping)
    worst = max(known.severity, severity, key=SEVERITIES.index)
    alert = replace(known, severity=worst, score=score, updated=moment, reasons=reasons, evidence=evidence)
    connection.execute(sa.update(table).where(table.c.id == alert.id).values(**vars(alert)))
    return alert, False


def decide(
    connection: sa.Connection,
    alert_id: str,
    decision: Decision,
    operator: str,
    note: str,
    duration: timedelta = enforcement.DEFAULT_DURATION,
) -> Alert:
    """Close an open alert by a person's decision; `divert` and `suspend` put the measure in force with it.

    Raises `InvalidValue` without a note, `Forbidden` when the alert is decided already or the measure can't be taken.
    """
    alert = get(connection, alert_id)
    if not note.strip():
        raise InvalidValue("a decision needs a note: say why in a sentence, it is what an audit will read")
    if alert.state != "open":
        raise Forbidden(f"alert {alert_id} was decided already ({alert.decision} by {alert.operator}): see its history")
    if decision != "dismiss":
        enforcement.impose(connection, alert.account, decision, operator, note, duration, alert_id)
    state: State = "dismissed" if decision == "dismiss" else "confirmed"
    moment = now()
    decided = replace(
        alert, state=state, updated=moment, decided=moment, decision=decision, operator=operator, note=note
    )
    connection.execute(sa.update(table).where(table.c.id == alert_id).values(**vars(decided)))
    audit.record(
        connection,
        operator,
        f"alert.{decision}",
        alert.account,
        before={"state": alert.state},
        after={"state": state},
        reason=note,
        alert=alert_id,
    )
    return decided


def get(connection: sa.Connection, alert_id: str) -> Alert:
    """Return one alert; `NotFound` with the remedy when there is none of that id."""
    row = connection.execute(sa.select(table).where(table.c.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound(f"no alert has the id {alert_id!r}: `spiritsafe alerts list` shows those there are")
    return Alert(**row._mapping)


def every(connection: sa.Connection, state: State | None = None, account: str | None = None) -> list[Alert]:
    """Return alerts, newest first, of one state or account where given."""
    query = sa.select(table).order_by(table.c.opened.desc())
    if state is not None:
        query = query.where(table.c.state == state)
    if account is not None:
        query = query.where(table.c.account == account)
    return [Alert(**row._mapping) for row in connection.execute(query)]


def barred_accounts(connection: sa.Connection) -> set[str]:
    """Return the accounts whose rows may not train: those with an open or a confirmed alert."""
    query = sa.select(table.c.account).where(table.c.state.in_(["open", "confirmed"])).distinct()
    return set(connection.execute(query).scalars())
