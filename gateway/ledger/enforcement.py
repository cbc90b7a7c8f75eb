"""Enforcement: the ladder of steps that people take against accounts; each ends by itself and is undone in one go.

From the mildest on: `watch` changes nothing, `strip` takes log-probabilities and further choices out, `divert` sends
`auto` to the student, `cap` bounds the teacher's tokens of a day, `verify` asks for a declared use and refuses without
one, `suspend` refuses. From `strip` on every step strips as well. One decision names any number of accounts, such as a
linked set, and is one id: all of it binds at once, and `undo` takes all of it back and restores what it replaced.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa

from gateway.ledger import accounts, audit, registry
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, uuid7

Action = Literal["watch", "strip", "divert", "cap", "verify", "suspend"]
ACTIONS: tuple[Action, ...] = get_args(Action)  # the mildest first
AUTOMATIC: tuple[Action, ...] = ("watch", "strip")  # all that a policy may ever do without a person
DEFAULT_DURATION = timedelta(days=7)
VERIFY_NOTICE = timedelta(hours=24)  # between the notice in the headers and the first refusal
BOUNDARY = timedelta(minutes=15)  # a spread beginning falls on one of these, so that it tells no request apart
MOST_ACCOUNTS = 10_000
_random = secrets.SystemRandom()

table = sa.Table(
    "enforcement",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("until", UtcTime, nullable=False),
    sa.Column("operator", sa.String, nullable=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("alert", sa.String, index=True),
    sa.Column("cleared", UtcTime),
    sa.Column("decision", sa.String, index=True),
    sa.Column("begins", UtcTime),
    sa.Column("meanwhile", sa.String),
    sa.Column("tokens_per_day", sa.BigInteger),
    sa.Column("meanwhile_tokens", sa.BigInteger),
    sa.Column("policy", sa.String),
    sa.Column("cleared_by", sa.String),
)


@dataclass(frozen=True)
class Step:
    """What is to be done to accounts, and when.

    It begins `after` a time and at a moment that nobody can foretell within `spread` of that, on a quarter of an hour;
    it holds for `duration` from there. `tokens_per_day` are teacher's output tokens, for `cap` only. `verify` begins a
    day later where `after` is not given.
    """

    action: Action
    duration: timedelta = DEFAULT_DURATION
    tokens_per_day: int | None = None
    after: timedelta | None = None
    spread: timedelta = timedelta()

    def check(self) -> None:
        """Raise `InvalidValue` for what no step can be."""
        if self.action == "cap" and not (self.tokens_per_day and self.tokens_per_day > 0):
            raise InvalidValue("a cap needs a number of teacher tokens a day: give --tokens-per-day (tokens_per_day)")
        if self.action != "cap" and self.tokens_per_day is not None:
            raise InvalidValue(f"{self.action} caps nothing: leave tokens_per_day out, or choose cap")
        check_spread(self.spread)

    def begins(self, moment: datetime) -> datetime:
        """Return when it begins if it is decided at a moment."""
        notice = VERIFY_NOTICE if self.action == "verify" else timedelta()
        start = moment + (notice if self.after is None else self.after)
        if not self.spread:
            return start
        width = BOUNDARY.total_seconds()
        first, last = -(-start.timestamp() // width), (start + self.spread).timestamp() // width
        return datetime.fromtimestamp(_random.randint(int(first), int(last)) * width, UTC)


@dataclass(frozen=True)
class Enforcement:
    """One account's part of a decision; `meanwhile` is the action until it `begins` (None: at once), a cap of
    `meanwhile_tokens` where it is one.

    `policy` names what took it without a person. `cleared_by` is the decision that replaced it. `decision` is the id
    that all rows of one decision share.
    """

    id: str
    account: str
    action: Action
    created: datetime
    until: datetime
    operator: str
    note: str
    alert: str | None = None
    cleared: datetime | None = None
    decision: str | None = None
    begins: datetime | None = None
    meanwhile: Action | None = None
    tokens_per_day: int | None = None
    meanwhile_tokens: int | None = None
    policy: str | None = None
    cleared_by: str | None = None

    def at(self, moment: datetime) -> Action | None:
        """Return what it does at a moment; None before it begins, where nothing was in force, and after its end."""
        if moment >= self.until:
            return None
        return self.action if self._has_begun(moment) else self.meanwhile

    def tokens_at(self, moment: datetime) -> int | None:
        """Return what a cap leaves of the teacher's tokens of the day, at a moment."""
        return self.tokens_per_day if self._has_begun(moment) else self.meanwhile_tokens

    def _has_begun(self, moment: datetime) -> bool:
        return self.begins is None or moment >= self.begins

    @property
    def decision_id(self) -> str:
        """What `undo` takes; a row of before there were decisions is one of its own."""
        return self.decision or self.id


@dataclass(frozen=True)
class Undone:
    """What `undo` did: the measures it ended, and those in force again because they had been replaced."""

    ended: list[Enforcement]
    restored: list[Enforcement]


def take(
    connection: sa.Connection,
    names: Sequence[str],
    step: Step,
    operator: str,
    note: str,
    alert: str | None = None,
    policy: str | None = None,
) -> list[Enforcement]:
    """Take a step against accounts, as one decision; returns a row for each, in the order named.

    Replaces what is in force against them. `NotFound` for an unknown account: then nothing is done to any. `Forbidden`
    for a diversion while no student is promoted, and for a policy that wants more than `AUTOMATIC`.
    """
    if policy is not None:
        check_automatic(step.action)
    step.check()
    chosen = list(dict.fromkeys(names))
    if not 0 < len(chosen) <= MOST_ACCOUNTS:
        raise InvalidValue(f"a decision names 1 to {MOST_ACCOUNTS} accounts, and this one {len(chosen)}")
    if step.action == "divert" and not registry.in_state(connection, "promoted"):
        raise Forbidden(
            "no student is promoted, so there is nothing to divert to: promote one with `spiritsafe models promote`, "
            "or take another step, such as cap or suspend"
        )
    moment = now()
    begins, decision = step.begins(moment), uuid7()
    measures = in_force(connection, chosen)
    rows = []
    for name in chosen:
        accounts.get(connection, name)
        before = measures.get(name)
        row = Enforcement(
            id=uuid7(), account=name, action=step.action, created=moment, until=begins + step.duration,
            operator=operator, note=note, alert=alert, decision=decision,
            begins=None if begins == moment else begins,
            tokens_per_day=step.tokens_per_day, policy=policy,
        )  # fmt: skip
        if row.begins is not None:
            row = _with_meanwhile(row, before, moment)
        _replace(connection, before, moment, decision)
        connection.execute(sa.insert(table).values(**vars(row)))
        detail = _detail(row, len(chosen))
        audit.record(
            connection, operator, f"enforce.{step.action}", name, before=_said(before), after=_said(row), reason=note,
            **detail,
        )  # fmt: skip
        rows.append(row)
    return rows


def check_spread(spread: timedelta) -> None:
    """Raise `InvalidValue` for one that no quarter of an hour need lie in."""
    if timedelta() < spread < BOUNDARY:
        raise InvalidValue("a spread is a quarter of an hour at least: choose 15m or more, or none")


def check_automatic(action: Action) -> None:
    """Raise `Forbidden` for what only a person may do."""
    if action not in AUTOMATIC:
        raise Forbidden(
            f"{action} is never automatic: a policy may {' or '.join(AUTOMATIC)}, and a person takes every further step"
        )


def clear(connection: sa.Connection, account: str, operator: str, note: str) -> int:
    """End the measures in force against an account; returns how many there were."""
    accounts.get(connection, account)
    before = in_force(connection, [account]).get(account)
    open_rows = sa.and_(table.c.account == account, _is_open(now()))
    ended = connection.execute(sa.update(table).where(open_rows).values(cleared=now())).rowcount
    audit.record(connection, operator, "enforce.clear", account, before=_said(before), reason=note)
    return ended


def undo(connection: sa.Connection, decision: str, operator: str, note: str) -> Undone:
    """Take a whole decision back: what it did ends, what it replaced is in force again, each to its own end.

    Accounts against which something else was decided since are left alone. `NotFound` for an unknown decision,
    `Forbidden` where none of it is in force any more.
    """
    moment = now()
    rows = of_decision(connection, decision)
    if not rows:
        raise NotFound(f"no decision has the id {decision!r}: `spiritsafe enforce --list` shows those in force")
    ended = [row for row in rows if row.cleared is None and row.until > moment]
    if not ended:
        raise Forbidden(f"nothing of decision {decision} is in force any more, so there is nothing to undo")
    restored = []
    for row in ended:
        connection.execute(sa.update(table).where(table.c.id == row.id).values(cleared=moment))
        before = _replaced_by(connection, row, moment)
        if before is not None:
            connection.execute(sa.update(table).where(table.c.id == before.id).values(cleared=None, cleared_by=None))
            before = replace(before, cleared=None, cleared_by=None)
            restored.append(before)
        audit.record(
            connection, operator, "enforce.undo", row.account, before=_said(row), after=_said(before), reason=note,
            decision=decision,
        )  # fmt: skip
    return Undone(ended, restored)


def undo_those_of_alert(connection: sa.Connection, alert: str, operator: str, note: str) -> list[Enforcement]:
    """Undo the decisions in force because of an alert, and return what they did; what they replaced comes back."""
    query = sa.select(table).where(table.c.alert == alert, _is_open(now()))
    decisions = dict.fromkeys(Enforcement(**row._mapping).decision_id for row in connection.execute(query))
    return [row for decision in decisions for row in undo(connection, decision, operator, note).ended]


def end_those_of_alert(connection: sa.Connection, alert: str, operator: str, note: str) -> None:
    """End all that is in force because of an alert, what earlier decisions about it had done included."""
    while undo_those_of_alert(connection, alert, operator, note):
        pass


def in_force(connection: sa.Connection, names: Sequence[str] | None = None) -> dict[str, Enforcement]:
    """Return, by account, the measure in force now or about to begin; of some accounts where they are given."""
    query = sa.select(table).where(_is_open(now())).order_by(table.c.created, table.c.id)
    if names is not None and len(names) <= 500:  # a database takes only so many parameters
        query = query.where(table.c.account.in_(names))
    return {row.account: Enforcement(**row._mapping) for row in connection.execute(query)}


def settled(connection: sa.Connection) -> set[str]:
    """Return the accounts about which a person decided for now: those under more than what a policy may do."""
    return {name for name, measure in in_force(connection).items() if measure.action not in AUTOMATIC}


def history(connection: sa.Connection, account: str | None = None) -> list[Enforcement]:
    """Return all measures ever imposed, newest first, of one account where it is given."""
    query = sa.select(table).order_by(table.c.created.desc(), table.c.id.desc())
    if account is not None:
        query = query.where(table.c.account == account)
    return [Enforcement(**row._mapping) for row in connection.execute(query)]


def of_decision(connection: sa.Connection, decision: str) -> list[Enforcement]:
    """Return the rows of one decision, as they stand now."""
    mine = sa.or_(table.c.decision == decision, sa.and_(table.c.decision.is_(None), table.c.id == decision))
    return [Enforcement(**row._mapping) for row in connection.execute(sa.select(table).where(mine))]


def was_applied(connection: sa.Connection, policy: str, alert: str) -> bool:
    """Has a policy acted on an alert before? What a person took back must not come again."""
    query = sa.select(table.c.id).where(table.c.policy == policy, table.c.alert == alert).limit(1)
    return connection.execute(query).first() is not None


def _with_meanwhile(row: Enforcement, before: Enforcement | None, moment: datetime) -> Enforcement:
    """Let what is in force go on until the new step begins; before a verification the account is stripped at least."""
    going_on = before.at(moment) if before is not None else None
    if row.action == "verify" and going_on in (None, "watch"):
        going_on = "strip"
    tokens = before.tokens_at(moment) if before is not None and going_on == "cap" else None
    return replace(row, meanwhile=going_on, meanwhile_tokens=tokens)


def _replace(connection: sa.Connection, before: Enforcement | None, moment: datetime, decision: str) -> None:
    if before is not None:
        mine = sa.and_(table.c.account == before.account, _is_open(moment))
        connection.execute(sa.update(table).where(mine).values(cleared=moment, cleared_by=decision))


def _replaced_by(connection: sa.Connection, row: Enforcement, moment: datetime) -> Enforcement | None:
    query = sa.select(table).where(
        table.c.account == row.account, table.c.cleared_by == row.decision_id, table.c.until > moment
    )
    found = [Enforcement(**one._mapping) for one in connection.execute(query.order_by(table.c.created.desc()))]
    return found[0] if found else None


def _is_open(moment: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.cleared.is_(None), table.c.until > moment)


def _said(measure: Enforcement | None) -> dict[str, Any] | None:
    """Return what the audit log says of a measure."""
    if measure is None:
        return None
    said: dict[str, Any] = {"action": measure.action, "until": measure.until}
    if measure.action == "cap":
        said["tokens_per_day"] = measure.tokens_per_day
    return said if measure.begins is None else said | {"begins": measure.begins}


def _detail(row: Enforcement, accounts_named: int) -> dict[str, Any]:
    detail: dict[str, Any] = {"decision": row.decision_id, "accounts": accounts_named}
    found = {"alert": row.alert, "policy": row.policy}
    return detail | {name: value for name, value in found.items() if value is not None}
