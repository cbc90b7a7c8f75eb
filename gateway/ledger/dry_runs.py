"""Dry runs: a step against accounts, or a policy, played over what has been, with what the control plane knows.

Nothing is changed. `estimates` has the arithmetic. The control plane is asked first and let go of before the lake is
read, because a transaction that waits for a lake holds others up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.ledger import accounts, alerts, enforcement, registry
from gateway.ledger.alerts import Alert
from gateway.ledger.database import Database
from gateway.ledger.enforcement import Step
from gateway.ledger.estimates import PERIOD, Estimate, House, Requests, estimate, read, total
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.ledger.policies import Policy

MOST_HITS = 1000


@dataclass(frozen=True)
class DryRun:
    """What a step would have done in the last week: all together, and by account."""

    step: Step
    total: Estimate
    by_account: dict[str, Estimate]

    def figures(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        by_account = {name: found.figures() for name, found in self.by_account.items()}
        return {"action": self.step.action, **self.total.figures(), "accounts": by_account}


@dataclass(frozen=True)
class Hit:
    """An alert that a policy would have acted on, and what its step would have done since.

    `begins` is the latest moment at which the step would have begun; `decided` what people made of the alert, None
    while it is open.
    """

    alert: Alert
    begins: datetime
    estimate: Estimate

    @property
    def decided(self) -> str | None:
        """How the alert was closed."""
        return self.alert.decision

    def row(self) -> dict[str, Any]:
        """Return it for a table or JSON."""
        return {
            "account": self.alert.account,
            "accounts": len(self.alert.accounts),
            "alert": self.alert.id,
            "opened": self.alert.opened,
            "severity": self.alert.severity,
            "score": self.alert.score,
            "decided": self.decided,
            "begins": self.begins,
            "requests": self.estimate.requests,
            "changed": self.estimate.changed,
            "teacher_tokens": self.estimate.teacher_tokens,
            "stopped_tokens": self.estimate.stopped_tokens,
        }


def of_step(database: Database, lake: Lake, names: Sequence[str], step: Step) -> DryRun:
    """Play a step against accounts over the last week; raises as `enforcement.take` does for what can't be taken."""
    return of_steps(database, lake, names, [step])[0]


def of_steps(database: Database, lake: Lake, names: Sequence[str], steps: Sequence[Step]) -> list[DryRun]:
    """Play several steps over one reading of the same traffic."""
    for step in steps:
        step.check()
    with database.read() as connection:
        for name in names:
            accounts.get(connection, name)
        house = _house(connection, names)
    requests = read(lake, names, now() - PERIOD)
    return [_played(requests, step, house, names) for step in steps]


def of_policy(database: Database, lake: Lake, policy: Policy, since: datetime) -> list[Hit]:
    """Play a policy over the alerts opened since a moment, as they stand now, and the traffic that came after them.

    Newest first, and the newest `MOST_HITS` where there are more. An alert's figures are its last ones: those at which
    it was met may have been lower.
    """
    enforcement.check_automatic(policy.action)
    with database.read() as connection:
        recent = alerts.opened_since(connection, since, policy.severity, MOST_HITS)
    found = [alert for alert in recent if _is_met(policy, alert)]
    requests = read(lake, {name for alert in found for name in alert.accounts}, since)
    return [_hit(requests, policy, alert) for alert in found]


def _hit(requests: Requests, policy: Policy, alert: Alert) -> Hit:
    begins = alert.opened + timedelta(seconds=policy.spread_s)
    part = requests.part(alert.accounts, begins, begins + policy.step.duration)
    return Hit(alert, begins, total(estimate(part, policy.step, House()).values()))


def _is_met(policy: Policy, alert: Alert) -> bool:
    return policy.is_met(alert.severity, alert.score, alert.leaked_tokens)


def _played(requests: Requests, step: Step, house: House, names: Sequence[str]) -> DryRun:
    found = estimate(requests, step, house)
    by_account = {name: found.get(name, Estimate()) for name in names}
    return DryRun(step, total(by_account.values()), by_account)


def _house(connection: sa.Connection, names: Sequence[str]) -> House:
    named = {name for name in names if (account := accounts.find(connection, name)) and account.divert_named}
    student = bool(registry.in_state(connection, "promoted"))
    return House(student, named, alerts.suspected(connection, names) if len(names) > 1 else None)
