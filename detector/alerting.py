"""From assessments to alerts: one open per account, none under a person's measure, none twice on one evidence.

Accounts that are only watched or stripped are still assessed: that is what watching is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from detector.scoring import ALERT, severity_of
from detector.watch import Assessment, Tracked, Watch
from gateway.ledger import accounts, alerts, declared_uses, enforcement
from gateway.ledger.alerts import Alert
from gateway.ledger.database import Database

MUCH_MORE = 1.5  # a closed alert's account must have leaked this much more, in all, before it is raised again …
AT_LEAST_MORE = 2000.0  # … and at least so many tokens more
REFRESH_S = 15.0  # an open alert is brought up to date at most this often: every write makes the workers reload
REFRESH_GROWTH = 1.02

logger = logging.getLogger(__name__)


@dataclass
class _Written:
    at: float
    leaked: float
    score: float


class Alerting:
    """Writes alerts. `clock` gives seconds, for the pace of updates."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._written: dict[str, _Written] = {}
        self._strangers: set[str] = set()

    def declared_uses(self) -> dict[str, list[declared_uses.DeclaredUse]]:
        """Return the declared uses in force, by account."""
        with self._database.read() as connection:
            return declared_uses.in_force(connection)

    def publish(self, watch: Watch, touched: Iterable[str]) -> list[Alert]:
        """Raise or bring up to date the alerts of suspects among `touched`; returns those that are new."""
        suspects = sorted(set(watch.suspects()) & set(touched))
        if not suspects:
            return []
        with self._database.read() as connection:
            known = {name for name in suspects if accounts.find(connection, name) is not None}
            newest = {name: next(iter(alerts.every(connection, account=name)), None) for name in known}
            settled = enforcement.settled(connection)
        self._warn(set(suspects) - known)
        raised = []
        for name in sorted(known - settled):
            alert = self._publish_one(watch, name, newest[name])
            raised += [] if alert is None else [alert]
        return raised

    def _publish_one(self, watch: Watch, name: str, newest: Alert | None) -> Alert | None:
        tracked = watch.tracked[name]
        if newest is None:
            assessment = watch.assess(name, tracked.peak)  # it may have come down since, but nobody was told
        elif tracked.score < ALERT:
            return None
        elif newest.state == "open":
            if not self._is_due(tracked, newest):
                return None
            assessment = watch.assess(name)
        elif _leaked_much_more(tracked, newest):
            assessment = watch.assess(name)
        else:
            return None
        return self._write(assessment, tracked)

    def _write(self, assessment: Assessment, tracked: Tracked) -> Alert | None:
        if assessment.severity == "none":
            return None
        found = evidence(assessment, tracked)
        severity, score = assessment.severity, round(assessment.score, 4)
        with self._database.write() as connection:
            alert, new = alerts.raise_or_update(
                connection, assessment.account, severity, score, assessment.reasons, found
            )
        leaked = tracked.account.totals.leaked_tokens
        self._written[assessment.account] = _Written(self._clock(), leaked, score)
        if new:
            logger.info("raised an alert", extra={"account": alert.account, "severity": severity, "alert": alert.id})
        return alert if new else None

    def _is_due(self, tracked: Tracked, newest: Alert) -> bool:
        last = self._written.get(tracked.account.name)
        if last is None:
            return True
        if severity_of(tracked.score) != severity_of(last.score) and tracked.score > last.score:
            return True
        grown = tracked.account.totals.leaked_tokens >= REFRESH_GROWTH * last.leaked
        return grown and self._clock() - last.at >= REFRESH_S

    def _warn(self, strangers: set[str]) -> None:
        for name in sorted(strangers - self._strangers):
            logger.warning(
                "an account of the lake is not registered, so no alert can be raised: "
                "run `spiritsafe accounts import` or `spiritsafe accounts create`",
                extra={"account": name},
            )
        self._strangers |= strangers


def evidence(assessment: Assessment, tracked: Tracked) -> dict[str, Any]:
    """Return an alert's evidence as `gateway.ledger.alerts.Alert` documents it; costs in nano-dollars.

    `requests_before_alert` counts from the account's first record in the lake, `live_requests_before_alert` those of
    live origin among them; `leaked_tokens` is novelty leaked.
    """
    account, crossing = tracked.account, assessment.crossing
    before = {
        "requests_before_alert": account.totals.requests if crossing is None else crossing.requests,
        "live_requests_before_alert": account.totals.live_requests if crossing is None else crossing.live_requests,
        "teacher_tokens_before_alert": account.totals.teacher_tokens if crossing is None else crossing.teacher_tokens,
    }
    return before | {
        "requests": account.totals.requests,
        "teacher_tokens": account.totals.teacher_tokens,
        "leaked_tokens": round(account.totals.leaked_tokens),
        "cost": account.totals.cost,
        "family": account.cusum.family,
        "lowered_by": assessment.lowered_by,
        "examples": account.representative(),
        "daily": account.windows.daily()[-28:],
    }


def _leaked_much_more(tracked: Tracked, closed: Alert) -> bool:
    before = float(closed.evidence.get("leaked_tokens", 0.0))
    return tracked.account.totals.leaked_tokens >= max(MUCH_MORE * before, before + AT_LEAST_MORE)
