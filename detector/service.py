"""The service: follows the lake in rounds and suggests alerts. What it knows it rebuilds from the lake at its start."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from detector.alerting import Alerting
from detector.observations import COLUMNS, stream
from detector.watch import Watch
from gateway.ledger import metric_files
from gateway.ledger.database import Database
from gateway.ledger.errors import LakeUnreachable
from gateway.ledger.lake import Lake
from gateway.settings import Settings

PROCESS = ("detector", "run")  # what `spiritsafe up` starts and keeps running
RESTS = (
    4.0  # after a round that took t seconds of CPU it rests at least this many times t, beside vLLM on the same cores
)
LONGEST_WAIT_S = 30.0

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
        for severity in ("low", "medium", "high"):
            self.alerts.labels(severity)


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
        self._watch = Watch(settings.detector.minimum_requests)
        self._version = -1
        self._caught_up = time.monotonic()
        self._published: set[str] = set()
        self.metrics = Metrics()

    def round(self) -> Round:
        """Read what is new in the lake, score the accounts it concerns, and raise alerts."""
        began = time.process_time()
        version = self._lake.version()
        rows = raised = 0
        if version > self._version:
            rows, raised = self._advance()
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
        metric_files.publish(directory, "detector", self.metrics.registry)

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
        table, version = self._lake.follow(self._version, columns=COLUMNS)
        self._watch.uses = self._alerting.declared_uses()
        touched = self._watch.advance(stream(table))
        raised = self._alerting.publish(self._watch, touched)
        self._version = version
        for alert in raised:
            self.metrics.alerts.labels(alert.severity).inc()
        return table.num_rows, len(raised)

    def _measure(self, rows: int, cpu_s: float) -> None:
        self.metrics.rows.inc(rows)
        self.metrics.accounts.set(len(self._watch.tracked))
        self.metrics.suspects.set(len(self._watch.suspects()))
        self.metrics.round_seconds.observe(cpu_s)
