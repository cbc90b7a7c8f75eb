"""Tells people what happened to alerts: a thread for each channel of the operator process, which nothing waits for.

Where each channel stands is a row of the control plane, so that a restart tells nothing twice that got through, and of
several operator processes one tells it. A message that was sent as its process died is sent again, with the same id.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge

from dashboards.notifications import schedule
from dashboards.notifications.messages import Message, compose
from dashboards.notifications.senders import NotSent, send
from gateway.ledger import alert_events, alerts, channels, metric_files
from gateway.ledger.alert_events import AlertEvent
from gateway.ledger.channels import Channel
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from gateway.settings import ChannelSettings, Settings

LOG = logging.getLogger("spiritsafe.notifications")
MOST_EVENTS = 1000  # in a message
CLAIM = timedelta(minutes=2)  # longer than a message can take
PAUSE_S = 2.0
OUTCOMES = ("sent", "failed", "given_up")


class Metrics:
    """What the notifications count."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.messages = Counter(
            "spiritsafe_notifications",
            "Messages to people, by channel and outcome: sent, failed (tried again) or given_up.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.waiting = Gauge(
            "spiritsafe_notifications_waiting_seconds",
            "How long the oldest event that a channel has yet to tell has waited; quiet hours and digests included.",
            ["channel"],
            registry=registry,
        )


class Notifier:
    """Follows the events for one channel."""

    def __init__(
        self,
        settings: Settings,
        channel: ChannelSettings,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._database = database
        self._metrics = metrics
        self._clock = clock
        for outcome in OUTCOMES:
            metrics.messages.labels(channel.name, outcome)

    def run(self, stop: threading.Event) -> None:
        """Tell what happens until stopped; whatever goes wrong is logged and tried again."""
        while not stop.wait(PAUSE_S):
            try:
                self.tell()
            except Exception:
                LOG.exception("notifications stand still for a moment", extra={"channel": self._channel.name})

    def tell(self) -> bool:
        """Send what is due, one message at most; True when one was sent."""
        name = self._channel.name
        with self._database.read() as connection:
            state = channels.get(connection, name)
            found = [] if state is None else alert_events.after(connection, state.position, MOST_EVENTS)
        if state is None:
            with self._database.write(announce=False) as connection:
                channels.begin(connection, name)
            return False
        # What was tried once is tried again as it was, so that its id stands for the same events.
        events = [event for event in found if state.upto is None or event.number <= state.upto]
        wanted = [event for event in events if schedule.is_wanted(self._channel, event)]
        moment = self._clock()
        self._metrics.waiting.labels(name).set((moment - wanted[0].time).total_seconds() if wanted else 0.0)
        if not events:
            return False
        upto = state.upto or events[-1].number
        if not wanted:
            self._pass(upto, sent=False)
            return False
        is_time = schedule.is_time(self._settings.notifications, self._channel, wanted, state.sent, moment)
        return moment >= state.due and is_time and self._send(state, wanted, upto)

    def _send(self, state: Channel, wanted: list[AlertEvent], upto: int) -> bool:
        name = self._channel.name
        with self._database.write(announce=False) as connection:
            if not channels.claim(connection, state, upto, self._clock() + CLAIM):
                return False
            alert_events.forget_old(connection)
        message = self._message(state, wanted, upto)
        try:
            if message is not None:
                send(self._channel, message)
        except NotSent as error:
            self._failed(state, str(error), upto)
            return False
        self._pass(upto, sent=message is not None)
        if message is not None:
            self._metrics.messages.labels(name, "sent").inc()
        return message is not None

    def _message(self, state: Channel, wanted: list[AlertEvent], upto: int) -> Message | None:
        with self._database.read() as connection:
            found = {alert.id: alert for alert in alerts.named(connection, list({event.alert for event in wanted}))}
        identity = hashlib.sha256(f"{state.name} {state.position} {upto} {wanted[0].alert}".encode()).hexdigest()
        return compose(f"msg_{identity[:32]}", wanted, found, self._settings.notifications.address)

    def _failed(self, state: Channel, why: str, upto: int) -> None:
        name, attempts = state.name, state.attempts + 1
        said = {"channel": name, "attempts": attempts, "why": why}
        if attempts >= schedule.MOST_ATTEMPTS:
            LOG.error("a notification was given up; the alerts stand in the queue all the same", extra=said)
            self._metrics.messages.labels(name, "given_up").inc()
            self._pass(upto, sent=False)
            return
        LOG.warning("a notification did not get through and is tried again", extra=said)
        self._metrics.messages.labels(name, "failed").inc()
        with self._database.write(announce=False) as connection:
            channels.failed(connection, state, why, schedule.next_try(attempts, self._clock()))

    def _pass(self, upto: int, *, sent: bool) -> None:
        with self._database.write(announce=False) as connection:
            channels.passed(connection, self._channel.name, upto, sent=sent)


def start(settings: Settings, database: Database, stop: threading.Event) -> list[threading.Thread]:
    """Start a thread for each channel, and one that publishes their metrics; none where there is no channel."""
    if not settings.notifications.channels:
        return []
    metrics = Metrics()
    notifiers = [Notifier(settings, channel, database, metrics) for channel in settings.notifications.channels]
    threads = [threading.Thread(target=one.run, args=(stop,), daemon=True) for one in notifiers]
    threads.append(threading.Thread(target=_publish, args=(settings, metrics, stop), daemon=True))
    for thread in threads:
        thread.start()
    return threads


def _publish(settings: Settings, metrics: Metrics, stop: threading.Event) -> None:
    while True:
        try:
            metric_files.publish(settings.data_dir / "metrics", "notifier", metrics.registry)
        except OSError as error:
            LOG.warning("the metrics of notifications could not be written: %s", error)
        if stop.wait(PAUSE_S):
            return
