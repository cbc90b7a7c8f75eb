"""From assessments to alerts: one open per account, none under a person's measure, none twice on one evidence.

Accounts that are only watched or stripped are still assessed: that is what watching is. A linked set has one alert, in
the name of the member that has one open, first of all the oldest, else of the one that had the newest, else of the
one that drew most. A canary's alert is raised as any other and closed at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detector import sketch
from detector.watch import Assessment, Watch
from gateway.ledger import accounts, alerts, declared_uses, enforcement
from gateway.ledger.alerts import Alert
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now

MUCH_MORE = 1.5  # a closed alert's account must have leaked this much more, in all, before it is raised again …
AT_LEAST_MORE = 2000.0  # … and at least so many tokens more
REFRESH_S = 15.0  # an open alert is brought up to date at most this often: every write makes the workers reload
REFRESH_GROWTH = 1.02
ACTOR = "detector"  # who closes a canary's alert
CANARY_FOUND = "an account of our own, sent to be found: alerts come, and there is nothing to decide"
CANARY_ALERTS = 24  # in a day are closed: what harvests on under a canary's name is looked at as anybody is

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
        """Return the declared uses by account, ended ones too: what is read may be of before their end."""
        with self._database.read() as connection:
            return declared_uses.every(connection)

    def publish(self, watch: Watch, touched: Iterable[str]) -> list[Alert]:
        """Raise or bring up to date the alerts of suspects among `touched`; returns those that are new."""
        suspects = _with_their_sets(watch, touched)
        if not suspects:
            return []
        with self._database.read() as connection:
            known = {name for name in suspects if accounts.find(connection, name) is not None}
            newest: dict[str, Alert | None] = dict.fromkeys(known)
            # The oldest first, so that the newest is what stays.
            newest |= {alert.account: alert for alert in reversed(alerts.every(connection)) if alert.account in known}
            settled = enforcement.settled(connection)
        self._warn(suspects - known)
        raised = []
        for name in _heads(watch, known - settled, newest):
            publish = self._publish_canary if name in watch.canaries else self._publish_one
            alert = publish(watch, name, newest[name])
            raised += [] if alert is None else [alert]
        return raised

    def _publish_one(self, watch: Watch, name: str, newest: Alert | None) -> Alert | None:
        verdict = watch.book.verdicts[watch.book.place(name)]
        if newest is None:
            # It may have come down since, but nobody was told.
            return self._write(watch, watch.assess(name, float(verdict["peak"])))
        score, leaked = float(verdict["score"]), float(verdict["leaked"])
        if score < watch.model.alert:
            return None
        due = self._is_due(watch, name) if newest.state == "open" else _leaked_much_more(leaked, newest)
        return self._write(watch, watch.assess(name)) if due else None

    def _publish_canary(self, watch: Watch, name: str, newest: Alert | None) -> Alert | None:
        """Raise what a canary's run calls for, and begin anew for its next one; an open alert waits for a person."""
        if newest is not None and newest.state == "open":
            return None
        verdict, alert = watch.book.verdicts[watch.book.place(name)], None
        # Otherwise it is of an earlier run, as where the lake is read again.
        if newest is None or verdict["alert_time"] > newest.opened.timestamp():
            alert = self._write(watch, watch.assess(name, float(verdict["peak"])))
        if alert is None or alert.of_canary:
            watch.begin_anew(name)
        return alert

    def _is_a_run(self, name: str) -> bool:
        since = now() - timedelta(days=1)
        with self._database.read() as connection:
            return sum(alert.opened >= since for alert in alerts.every(connection, account=name)) < CANARY_ALERTS

    def _write(self, watch: Watch, assessment: Assessment) -> Alert | None:
        if assessment.severity == "none":
            return None
        found = evidence(watch, assessment)
        if assessment.account in watch.canaries and self._is_a_run(assessment.account):
            found["canary"] = True
        severity, score = assessment.severity, round(assessment.score, 4)
        with self._database.write() as connection:
            alert, new = alerts.raise_or_update(
                connection, assessment.account, severity, score, assessment.reasons, found
            )
            if alert.of_canary:
                alerts.decide(connection, alert.id, "dismiss", ACTOR, CANARY_FOUND)
        self._written[assessment.account] = _Written(self._clock(), found["leaked_tokens"], assessment.score)
        if new:
            logger.info("raised an alert", extra={"account": alert.account, "severity": severity, "alert": alert.id})
        return alert if new else None

    def _is_due(self, watch: Watch, name: str) -> bool:
        last = self._written.get(name)
        if last is None:
            return True
        verdict = watch.book.verdicts[watch.book.place(name)]
        score = float(verdict["score"])
        if watch.model.severity(score) != watch.model.severity(last.score) and score > last.score:
            return True
        grown = float(verdict["leaked"]) >= REFRESH_GROWTH * last.leaked
        return grown and self._clock() - last.at >= REFRESH_S

    def _warn(self, strangers: set[str]) -> None:
        for name in sorted(strangers - self._strangers):
            logger.warning(
                "an account of the lake is not registered, so no alert can be raised: "
                "run `spiritsafe accounts import` or `spiritsafe accounts create`",
                extra={"account": name},
            )
        self._strangers |= strangers


def _with_their_sets(watch: Watch, touched: Iterable[str]) -> set[str]:
    """Return the suspects among `touched` and those of their sets: who has a set's alert may have been silent."""
    every = set(watch.suspects())
    chosen = every & set(touched)
    for name in tuple(chosen):
        linked = watch.acting_with(name)
        if linked is not None:
            chosen |= every & {watch.book.names[place] for place in linked.members.tolist()}
    return chosen


def _heads(watch: Watch, suspects: set[str], newest: Mapping[str, Alert | None]) -> list[str]:
    """Return who alerts are to speak of: every suspect that is in no set, and one of each set."""
    heads: dict[str, str] = {}

    def rank(name: str) -> tuple[bool, bool, float, float]:
        alert = newest[name]
        is_open = alert is not None and alert.state == "open"
        opened = 0.0 if alert is None else alert.opened.timestamp() * (-1 if is_open else 1)
        return is_open, alert is not None, opened, float(watch.book.verdicts["leaked"][watch.book.place(name)])

    for name in sorted(suspects):
        linked = watch.acting_with(name)
        key = name if linked is None else f"set of {watch.book.names[int(linked.members.min())]}"
        if key not in heads or rank(name) > rank(heads[key]):
            heads[key] = name
    return sorted(heads.values())


def evidence(watch: Watch, assessment: Assessment) -> dict[str, Any]:
    """Return an alert's evidence as `gateway.ledger.alerts.Alert` documents it; costs in nano-dollars.

    `requests_before_alert` counts from the account's first record in the lake, `live_requests_before_alert` those of
    live origin among them; `leaked_tokens` is novelty leaked since then. `members` are the others of a linked set that
    gives cause for an alert, `set` its id, `links` which two are linked by which channels, strongest first.
    """
    name, crossing = assessment.account, assessment.crossing
    place = watch.book.place(name)
    state, verdict = watch.book.states[place : place + 1], watch.book.verdicts[place]
    requests, tokens, live = int(state["total"][0]), int(state["output"][0]), int(verdict["live"])
    return {
        "requests_before_alert": requests if crossing is None else crossing.requests,
        "live_requests_before_alert": live if crossing is None else crossing.live_requests,
        "teacher_tokens_before_alert": tokens if crossing is None else crossing.teacher_tokens,
        "requests": requests,
        "teacher_tokens": tokens,
        "leaked_tokens": round(float(verdict["leaked"])),
        "cost": int(verdict["cost"]),
        "lowered_by": assessment.lowered_by,
        **_linked(watch, assessment),
        "examples": watch.book.examples(name),
        "daily": _daily(state),
    }


def _linked(watch: Watch, assessment: Assessment) -> dict[str, Any]:
    linked, names = watch.acting_with(assessment.account), watch.book.names
    if linked is None:
        return {"set": None, "members": [], "links": []}
    links = [
        {
            "accounts": [names[edge.first], names[edge.second]],
            "channels": list(edge.channels),
            "log_odds": edge.log_odds,
        }
        for edge in linked.edges
    ]
    members = [names[place] for place in linked.members.tolist() if names[place] != assessment.account]
    return {"set": assessment.set_id, "members": members, "links": links}


def _daily(state: sketch.States) -> list[dict[str, Any]]:
    days = sketch.daily(state)[0]
    newest = datetime.fromtimestamp(int(state["day"][0]) * sketch.DAY_S, UTC).date()
    return [
        {
            "day": (newest - timedelta(days=sketch.DAYS - 1 - place)).isoformat(),
            "requests": round(float(days[0, place])),
            "teacher_tokens": round(float(days[1, place])),
        }
        for place in np.flatnonzero(days[0] > 0).tolist()
    ]


def _leaked_much_more(leaked: float, closed: Alert) -> bool:
    before = float(closed.evidence.get("leaked_tokens", 0.0))
    return leaked >= max(MUCH_MORE * before, before + AT_LEAST_MORE)
