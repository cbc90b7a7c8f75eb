"""Alerts: what the detector suggests, and what a person decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa

from gateway.ledger import accounts, alert_events, appeals, audit, canaries, enforcement, policies
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.enforcement import Action, Step
from gateway.ledger.engines import is_true
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, uuid7
from gateway.ledger.policies import SEVERITIES as SEVERITIES
from gateway.ledger.policies import Severity as Severity

State = Literal["open", "confirmed", "dismissed"]
Finding = Literal["harvesting", "reseller", "declared_use", "test_traffic", "our_mistake", "other"]
FINDINGS: tuple[Finding, ...] = get_args(Finding)  # what a person found it to be
Decision = Literal["dismiss"] | Action
DECISIONS: tuple[Decision, ...] = ("dismiss", *get_args(Action))

table = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("opened", UtcTime, nullable=False, index=True),
    sa.Column("updated", UtcTime, nullable=False),
    sa.Column("reasons", Json, nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("decided", UtcTime, index=True),
    sa.Column("decision", sa.String),
    sa.Column("operator", sa.String),
    sa.Column("note", sa.String),
    sa.Column("assignee", sa.String),
    sa.Column("finding", sa.String),
    sa.Column("batch", sa.String, index=True),
    # All that the queue is ordered and filtered by, so that no evidence is read for it.
    sa.Index("alerts_in_queue", "state", "account", "severity", "score", "opened", "id", "assignee"),
)


@dataclass(frozen=True)
class Alert:
    """A suspicion about one account.

    `reasons`: list of {feature, value, own_baseline, peer_median, text}. `evidence`: requests_before_alert,
    teacher_tokens_before_alert, requests, teacher_tokens, cost (nano-dollars), examples (list of record ids),
    daily (list of {day, requests, teacher_tokens}), and of a linked set its id (set), the other accounts (members) and
    links (list of {accounts, channels}). `canary` is true of an account of our own that was sent to be found.
    `assignee` is the operator who has it; `finding` what a person found it to be when deciding, `batch` the bulk
    decision that it was a part of.
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
    assignee: str | None = None
    finding: Finding | None = None
    batch: str | None = None

    @property
    def accounts(self) -> list[str]:
        """Its account, and the others of its linked set, which need not all be registered here."""
        members = [member for member in self.evidence.get("members", []) if isinstance(member, str)]
        return list(dict.fromkeys([self.account, *members]))

    @property
    def of_canary(self) -> bool:
        """Whether it is about an account of our own that was sent to be found: there is nothing to decide about it."""
        return self.evidence.get("canary") is True

    @property
    def leaked_tokens(self) -> float:
        """New tokens that it names as leaked; 0 where it names none."""
        leaked = self.evidence.get("leaked_tokens")
        return leaked if isinstance(leaked, (int, float)) else 0


def raise_or_update(
    connection: sa.Connection,
    account: str,
    severity: Severity,
    score: float,
    reasons: list[dict[str, Any]],
    evidence: dict[str, Any],
) -> tuple[Alert, bool]:
    """Open an alert, or bring the account's open one up to date (severity never falls); True when it is new.

    The policies that people switched on act on it in the same transaction.
    """
    moment = now()
    row = connection.execute(sa.select(table).where(table.c.account == account, table.c.state == "open")).one_or_none()
    if row is None:
        alert = Alert(uuid7(), account, severity, score, "open", moment, moment, reasons, evidence)
        connection.execute(sa.insert(table).values(**vars(alert)))
        _tell(connection, "opened", alert)
        _apply_policies(connection, alert)
        return alert, True
    known = Alert(**row._mapping)
    worst = max(known.severity, severity, key=SEVERITIES.index)
    alert = replace(known, severity=worst, score=score, updated=moment, reasons=reasons, evidence=evidence)
    connection.execute(sa.update(table).where(table.c.id == alert.id).values(**vars(alert)))
    if worst != known.severity:
        _tell(connection, "raised", alert)
    _apply_policies(connection, alert)
    return alert, False


def decide(
    connection: sa.Connection,
    alert_id: str,
    decision: Decision,
    operator: str,
    note: str,
    duration: timedelta = enforcement.DEFAULT_DURATION,
    tokens_per_day: int | None = None,
    finding: Finding | None = None,
    batch: str | None = None,
) -> Alert:
    """Close an open alert by a person's decision; every other than `dismiss` takes that step against its accounts.

    A dismissal ends what is in force because of the alert. `batch` is the bulk decision that this is a part of. Raises
    `InvalidValue` without a note, `Forbidden` when the alert is decided already or the step can't be taken.
    """
    alert = get(connection, alert_id)
    if not note.strip():
        raise InvalidValue("a decision needs a note: say why in a sentence, it is what an audit will read")
    if finding is not None and finding not in FINDINGS:
        raise InvalidValue(f"{finding!r} is nothing that an alert can be found to be: choose {', '.join(FINDINGS)}")
    if alert.state != "open":
        raise Forbidden(f"alert {alert_id} was decided already ({alert.decision} by {alert.operator}): see its history")
    if decision == "dismiss":
        enforcement.end_those_of_alert(connection, alert_id, operator, note)
    else:
        step = Step(decision, duration, tokens_per_day)
        enforcement.take(connection, accounts_of(connection, alert), step, operator, note, alert_id)
    state: State = "dismissed" if decision == "dismiss" else "confirmed"
    moment = now()
    decided = replace(
        alert, state=state, updated=moment, decided=moment, decision=decision, operator=operator, note=note,
        finding=finding, batch=batch,
    )  # fmt: skip
    connection.execute(sa.update(table).where(table.c.id == alert_id).values(**vars(decided)))
    _tell(connection, "decided", decided)
    after = {"state": state} | ({} if finding is None else {"finding": finding})
    detail = {"alert": alert_id} | ({} if batch is None else {"batch": batch})
    audit.record(
        connection, operator, f"alert.{decision}", alert.account, before={"state": alert.state}, after=after,
        reason=note, **detail,
    )  # fmt: skip
    return decided


def assign(connection: sa.Connection, alert_id: str, assignee: str | None, operator: str) -> Alert:
    """Give an open alert to an operator, or to nobody; `Forbidden` for one that is decided."""
    alert = get(connection, alert_id)
    if alert.state != "open":
        raise Forbidden(f"alert {alert_id} was decided already ({alert.decision} by {alert.operator}): see its history")
    if assignee == alert.assignee:
        return alert
    connection.execute(sa.update(table).where(table.c.id == alert_id).values(assignee=assignee))
    before, after = {"assignee": alert.assignee}, {"assignee": assignee}
    audit.record(connection, operator, "alert.assign", alert.account, before=before, after=after, alert=alert_id)
    return replace(alert, assignee=assignee)


def appeal(connection: sa.Connection, alert_id: str, operator: str, note: str) -> Alert:
    """Note what an account says against an alert, and open it again where it was decided.

    What is in force stays so until somebody decides anew. `InvalidValue` without a note, `Forbidden` while the account
    has another open alert, which is where the appeal belongs.
    """
    if not note.strip():
        raise InvalidValue("an appeal needs a note: say in a sentence what the account says against the alert")
    return _reopen(connection, get(connection, alert_id), operator, note, "alert.appeal")


def take_back(connection: sa.Connection, alert_id: str, operator: str, note: str) -> Alert:
    """Undo the decision about an alert: what it did ends, what it replaced is in force again, and the alert is open.

    What a dismissal ended stays ended.
    """
    alert = get(connection, alert_id)
    if alert.state == "open":
        raise Forbidden(f"alert {alert_id} is open: there is no decision to take back")
    enforcement.undo_those_of_alert(connection, alert_id, operator, note)
    return _reopen(connection, alert, operator, note, "alert.undo")


def _reopen(connection: sa.Connection, alert: Alert, operator: str, note: str, action: str) -> Alert:
    others = [other for other in every(connection, "open", alert.account) if other.id != alert.id]
    if others:
        raise Forbidden(f"{alert.account} has an open alert already, {others[0].id}: note the appeal there")
    moment = now()
    opened = replace(
        alert, state="open", updated=moment, decided=None, decision=None, operator=None, note=None, finding=None,
        batch=None,
    )  # fmt: skip
    connection.execute(sa.update(table).where(table.c.id == alert.id).values(**vars(opened)))
    if action == "alert.appeal":
        appeals.note(connection, alert.id, alert.account, operator, note)
    before = {"state": alert.state, "decision": alert.decision, "operator": alert.operator, "note": alert.note}
    audit.record(
        connection, operator, action, alert.account, before=before, after={"state": "open"}, reason=note,
        alert=alert.id,
    )  # fmt: skip
    return opened


def _tell(connection: sa.Connection, kind: alert_events.Kind, alert: Alert) -> None:
    if not alert.of_canary:
        alert_events.record(connection, kind, alert.id, alert.severity)


def _apply_policies(connection: sa.Connection, alert: Alert) -> None:
    policies.apply(connection, alert.id, alert.accounts, alert.severity, alert.score, alert.leaked_tokens)


def get(connection: sa.Connection, alert_id: str) -> Alert:
    """Return one alert; `NotFound` with the remedy when there is none of that id."""
    row = connection.execute(sa.select(table).where(table.c.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound(f"no alert has the id {alert_id!r}: `spiritsafe alerts list` shows those there are")
    return Alert(**row._mapping)


def of_set(connection: sa.Connection, reference: str) -> Alert:
    """Return the newest alert about a linked set, by the set's id or the alert's own."""
    for alert in every(connection):
        if reference in (alert.id, alert.evidence.get("set")):
            return alert
    raise NotFound(f"no alert or linked set has the id {reference!r}: `spiritsafe alerts list --json` shows both")


def accounts_of(connection: sa.Connection, alert: Alert) -> list[str]:
    """Return the accounts that a decision about an alert hits: of those it names, all that are registered here."""
    return [name for name in alert.accounts if accounts.find(connection, name) is not None]


def is_of_people(connection: sa.Connection) -> sa.ColumnElement[bool]:
    """Return the condition that an alert is about somebody: what was raised about a canary is nobody's work.

    The evidence of canaries' alerts alone is looked at: reading that of every alert would cost more than the queue.
    """
    other = table.alias()
    about_canaries = other.c.account.in_(sa.select(canaries.table.c.account))
    told = sa.select(other.c.id).where(about_canaries, is_true(connection, other.c.evidence, "canary"))
    return table.c.id.not_in(told)


def every(
    connection: sa.Connection, state: State | None = None, account: str | None = None, limit: int | None = None
) -> list[Alert]:
    """Return alerts, newest first, of one state or account where given, and the newest of them with a limit."""
    query = sa.select(table).order_by(table.c.opened.desc(), table.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(table.c.state == state)
    if account is not None:
        query = query.where(table.c.account == account)
    return [Alert(**row._mapping) for row in connection.execute(query)]


def opened_since(connection: sa.Connection, moment: datetime, least: Severity, limit: int) -> list[Alert]:
    """Return the alerts about somebody opened since a moment of at least a severity, newest first."""
    severities = SEVERITIES[SEVERITIES.index(least) :]
    query = sa.select(table).where(table.c.opened >= moment, table.c.severity.in_(severities), is_of_people(connection))
    query = query.order_by(table.c.opened.desc(), table.c.id.desc()).limit(limit)
    return [Alert(**row._mapping) for row in connection.execute(query)]


def named(connection: sa.Connection, ids: Sequence[str]) -> list[Alert]:
    """Return the alerts of some ids in the order of these; ids that no alert has are passed over."""
    rows = connection.execute(sa.select(table).where(table.c.id.in_(ids)))
    found = {row.id: Alert(**row._mapping) for row in rows}
    return [found[one] for one in ids if one in found]


def counts(connection: sa.Connection) -> dict[str, int]:
    """Return how many alerts about somebody there are of each state."""
    query = sa.select(table.c.state, sa.func.count()).where(is_of_people(connection)).group_by(table.c.state)
    found = {str(state): int(number) for state, number in connection.execute(query)}
    return {state: found.get(state, 0) for state in get_args(State)}


def count_open(connection: sa.Connection) -> int:
    """Return how many alerts wait for a decision."""
    query = sa.select(sa.func.count()).select_from(table).where(table.c.state == "open", is_of_people(connection))
    return int(connection.execute(query).scalar_one())


def open_about(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    """Return which of some accounts have an open alert of their own."""
    query = sa.select(table.c.account).where(table.c.state == "open", table.c.account.in_(names))
    return set(connection.execute(query).scalars())


def last_decided(connection: sa.Connection) -> datetime | None:
    """Return when an alert about somebody was last closed."""
    query = sa.select(sa.func.max(table.c.decided)).where(is_of_people(connection))
    found: datetime | None = connection.execute(query).scalar()
    return found


def forget_member(connection: sa.Connection, account: str) -> None:
    """Take an account that is erased out of the linked sets of other accounts' alerts."""
    for alert in every(connection):
        if account in alert.evidence.get("members", []):
            members = [member for member in alert.evidence["members"] if member != account]
            links = [link for link in alert.evidence.get("links", []) if account not in link.get("accounts", [])]
            evidence = alert.evidence | {"members": members, "links": links}
            connection.execute(sa.update(table).where(table.c.id == alert.id).values(evidence=evidence))


def suspected(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    """Return whom the open and confirmed alerts about some accounts name, the others of their sets included."""
    return _named(connection, table.c.account.in_(names))


def barred_accounts(connection: sa.Connection) -> set[str]:
    """Return the accounts whose rows may not train: those that an open or a confirmed alert names, and canaries."""
    return _named(connection, sa.true()) | canaries.names(connection)


def _named(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> set[str]:
    query = sa.select(table).where(chosen, table.c.state != "dismissed")
    return {name for row in connection.execute(query) for name in Alert(**row._mapping).accounts}
