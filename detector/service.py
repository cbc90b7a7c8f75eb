"""The service: follows the lake in rounds and suggests alerts.

What it knows it keeps in a checkpoint below `data_dir`, with the version of the lake that it reaches up to; after a
restart it goes on from there. Without one, or with one that it can't read, it reads the lake from its beginning.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from detector import checkpoint, columns, models
from detector.alerting import Alerting
from detector.links.linker import AccountLinks, registered
from detector.models import Models
from detector.watch import Watch
from gateway.ledger import canaries, detector_models, metric_files
from gateway.ledger.database import Database
from gateway.ledger.errors import LakeUnreachable
from gateway.ledger.lake import Lake
from gateway.settings import Settings

PROCESS = ("detector", "run")  # what `spiritsafe up` starts and keeps running
RESTS = (
    4.0  # after a round that took t seconds of CPU it rests at least this many times t, beside vLLM on the same cores
)
LONGEST_WAIT_S = 30.0
LINK_EVERY_S, LINK_RESTS = 180.0, 50.0  # seconds between linkings, and at least so many times what the last one took
CHECKPOINT_EVERY_S = 60.0  # and when it is told to stop
CANARY_RESTS_S = 900.0  # a canary that was silent for so long begins another run

logger = logging.getLogger(__name__)


class Metrics:
    """The detector's own metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag = Gauge(
            "spiritsafe_detector_lag_seconds",
            "Age of the detector's view of the lake: seconds since it last had read all of it",
            registry=self.registry,
        )
        self.accounts = Gauge(
            "spiritsafe_detector_accounts", "Accounts that the detector keeps", registry=self.registry
        )
        self.suspects = Gauge(
            "spiritsafe_detector_suspects", "Accounts that have crossed the alert threshold", registry=self.registry
        )
        self.rows = Counter("spiritsafe_detector_rows", "Rows of the lake that were read", registry=self.registry)
        self.alerts = Counter(
            "spiritsafe_detector_alerts_raised", "Alerts opened", ["severity"], registry=self.registry
        )
        self.round_seconds = Histogram(
            "spiritsafe_detector_round_seconds",
            "CPU seconds of a round",
            buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
            registry=self.registry,
        )
        self.sets = Gauge("spiritsafe_detector_linked_sets", "Sets of linked accounts", registry=self.registry)
        self.link_seconds = Histogram(
            "spiritsafe_detector_link_seconds",
            "CPU seconds of linking all accounts",
            buckets=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
            registry=self.registry,
        )
        for severity in ("low", "medium", "high"):
            self.alerts.labels(severity)
        self.model = Gauge(
            "spiritsafe_detector_model_info",
            "1 for each model that the detector runs, by its id: the one in charge, which alone raises alerts, and the "
            "one in the shadow",
            ["role", "model"],
            registry=self.registry,
        )
        self.flagged = Gauge(
            "spiritsafe_detector_compared_accounts",
            "Accounts that called for an alert since the shadow began, by both models, by charge or by shadow alone",
            ["by"],
            registry=self.registry,
        )
        self.account_days = Gauge(
            "spiritsafe_detector_compared_looks",
            "Active days of accounts on which the model in charge and the one in the shadow were compared",
            registry=self.registry,
        )


@dataclass(frozen=True)
class Round:
    """What one round did; `cpu_s` in seconds."""

    rows: int
    raised: int
    cpu_s: float


class Service:
    """Follows one lake into one control plane."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._lake = Lake.of(settings)
        self._alerting = Alerting(database)
        self._database = database
        self._adopted, self._models = self._running()
        self.watch = self._new_watch()
        self._checkpoint = settings.data_dir / "detector" / "state"
        self._version = self._kept = checkpoint.resume(self._checkpoint, self.watch)
        self._kept_at = time.monotonic()
        self._caught_up = time.monotonic()
        self._link_at = time.monotonic()
        self.metrics = Metrics()

    def start_over(self) -> None:
        """Forget what a checkpoint brought, and read the lake from its beginning."""
        self.watch = self._new_watch()
        self._version = self._kept = -1

    def round(self) -> Round:
        """Read what is new in the lake, score the accounts it concerns, and raise alerts."""
        began = time.process_time()
        version = self._lake.version()
        rows = raised = 0
        self._forget_erased()
        if version < self._version:
            logger.warning("the checkpoint is of another lake: this one is read from its beginning")
            self.start_over()
        if version > self._version:
            rows, raised = self._advance()
        if self._version > self._kept and time.monotonic() - self._kept_at >= CHECKPOINT_EVERY_S:
            self.keep()
        now, cpu = time.monotonic(), time.process_time() - began
        self.metrics.lag.set(now - self._caught_up)
        self._caught_up = now
        self._measure(rows, cpu)
        return Round(rows, raised, cpu)

    def run(self, stop: threading.Event) -> None:
        """Run rounds until told to stop."""
        directory = self._settings.data_dir / "metrics"
        while not stop.is_set():
            done = self._round_if_there()
            metric_files.publish(directory, "detector", self.metrics.registry)
            if done.rows:
                logger.info("round", extra={"rows": done.rows, "raised": done.raised, "cpu_s": round(done.cpu_s, 3)})
            stop.wait(min(LONGEST_WAIT_S, max(self._settings.detector.interval_s, RESTS * done.cpu_s)))
        try:
            self.keep()
        except LakeUnreachable as error:  # who is being erased can't be known: the older checkpoint stays
            logger.error("%s; the checkpoint is not brought up to date", error)
        metric_files.publish(directory, "detector", self.metrics.registry)

    def keep(self) -> None:
        """Write the checkpoint, unless nothing has changed since the last."""
        self._forget_erased()
        if self._version > self._kept:
            checkpoint.write(self._checkpoint, self.watch, self._version)
            self._kept, self._kept_at = self._version, time.monotonic()

    def _forget_erased(self) -> None:
        hidden = [name for name in self._lake.storage.hidden() if name in self.watch.book]
        if hidden:
            self.watch.forget(hidden)
            self._link_at = time.monotonic()  # or each member of a set would stand alone until the next linking
            self._kept = -1  # what was kept speaks of them still

    def _round_if_there(self) -> Round:
        """Wait for a lake that does not answer: beginning again would mean reading all of it again."""
        began = time.process_time()
        try:
            return self.round()
        except LakeUnreachable as error:
            logger.error("%s; what was seen is kept and it is tried again", error)
            self.metrics.lag.set(time.monotonic() - self._caught_up)
            return Round(0, 0, time.process_time() - began)

    def _advance(self) -> tuple[int, int]:
        table, version = self._lake.follow(self._version, columns=columns.COLUMNS)
        self._see_to_models()
        self._see_to_canaries()
        self.watch.uses = self._alerting.declared_uses()
        touched = self.watch.advance(columns.read(table)) | self._link()
        raised = self._alerting.publish(self.watch, touched)
        self._version = version
        for alert in raised:
            self.metrics.alerts.labels(alert.severity).inc()
        return table.num_rows, len(raised)

    def _new_watch(self) -> Watch:
        links = AccountLinks(functools.partial(registered, self._database))
        return Watch(
            self._settings.detector.minimum_requests,
            model=self._models.charge,
            linker=links,
            shadow=self._models.shadow,
        )

    def _running(self) -> tuple[str | None, Models]:
        with self._database.read() as connection:
            return detector_models.newest_adopted(connection), models.running(self._settings, connection)

    def _see_to_models(self) -> None:
        """Take up the model that somebody adopted meanwhile."""
        with self._database.read() as connection:
            adopted = detector_models.newest_adopted(connection)
        if adopted == self._adopted:
            return
        self._adopted, self._models = self._running()
        self.watch.succeed(self._models.charge, self._models.shadow)
        self._kept = -1  # what was kept is another model's opinion
        logger.info("another model is in charge", extra={"model": self._models.charge.id})

    def _see_to_canaries(self) -> None:
        """Forget the canaries' earlier runs, or each would find them where the last one left them."""
        with self._database.read() as connection:
            self.watch.canaries = frozenset(canaries.names(connection))
        for name in self.watch.canaries:
            if name in self.watch.book and time.time() - self.watch.last_seen(name) > CANARY_RESTS_S:
                self.watch.begin_anew(name)

    def _link(self) -> set[str]:
        if time.monotonic() < self._link_at:
            return set()
        began = time.process_time()
        found = self.watch.link()
        spent = time.process_time() - began
        self.metrics.link_seconds.observe(spent)
        self.metrics.sets.set(self.watch.linked)
        self._link_at = time.monotonic() + max(LINK_EVERY_S, LINK_RESTS * spent)
        return found

    def _measure(self, rows: int, cpu_s: float) -> None:
        self.metrics.rows.inc(rows)
        self.metrics.accounts.set(len(self.watch.book))
        self.metrics.suspects.set(len(self.watch.suspects()))
        self._measure_models()
        self.metrics.round_seconds.observe(cpu_s)

    def _measure_models(self) -> None:
        shadow = self.watch.shadow
        self.metrics.model.clear()
        self.metrics.model.labels("charge", self.watch.model.id).set(1)
        if shadow is None:
            return
        self.metrics.model.labels("shadow", shadow.model.id).set(1)
        charge, other = shadow.compared["charge_time"] > 0, shadow.compared["shadow_time"] > 0
        for by, count in (("both", charge & other), ("charge", charge & ~other), ("shadow", other & ~charge)):
            self.metrics.flagged.labels(by).set(int(count.sum()))
        self.metrics.account_days.set(int(shadow.compared["days"].sum()))
