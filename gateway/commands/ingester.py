"""`spiritsafe ingester run`: bring spooled records into the lake, and say how far behind it is."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway import logs, records
from gateway.command import Context, standard_options
from gateway.ledger import metric_files
from gateway.ledger.disk import DiskBudget
from gateway.ledger.ingester import Ingester

PUBLISH_S = 1.0
logger = logging.getLogger(__name__)


@click.group()
def ingester() -> None:
    """Bring spooled records into the lake."""


@ingester.command()
@click.option("--once", is_flag=True, help="Ingest what the spool holds now, then stop.")
@standard_options
def run(context: Context, once: bool) -> None:
    """Ingest until SIGTERM or Ctrl-C, and once more then."""
    logs.configure("ingester")
    worker = Ingester(context.settings, records.complete)
    if once:
        context.emit_one({"rows": worker.run_once()})
        return
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda _number, _frame: stop.set())
    directory = context.settings.data_dir / "metrics"
    disk = DiskBudget(context.settings.data_dir, context.settings.spool.budget_bytes)
    publisher = threading.Thread(target=_publish, args=(worker, disk, directory, stop), name="metrics", daemon=True)
    publisher.start()
    worker.run(stop)
    publisher.join()


class IngesterMetrics:
    """What the ingester tells about itself."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._frames = Gauge(
            "spiritsafe_spool_lag_frames", "Frames in the spool that are not read yet.", registry=registry
        )
        self._bytes = Gauge("spiritsafe_spool_lag_bytes", "Bytes of those frames.", registry=registry)
        self._seconds = Gauge("spiritsafe_spool_lag_seconds", "Time since a slot was last read up.", registry=registry)
        self._damaged = Counter("spiritsafe_spool_damaged_bytes", "Bytes that made no frame.", registry=registry)
        self._rows = Counter("spiritsafe_ingested_rows", "Records committed to the lake.", registry=registry)
        self._failures = Counter("spiritsafe_ingest_failures", "Tries to ingest that failed.", registry=registry)
        self._conflicts = Counter(
            "spiritsafe_lake_conflicts",
            "Commits made again because another machine's came first.",
            registry=registry,
        )
        self._lost_decoders = Counter(
            "spiritsafe_decoders_lost", "Decoders that died, or hung and were killed.", registry=registry
        )
        self._committing = Gauge(
            "spiritsafe_lake_commit_seconds", "How long the commit under way has taken so far.", registry=registry
        )
        self._used = Gauge("spiritsafe_disk_used_bytes", "What spool and lake take.", registry=registry)
        self._budget = Gauge("spiritsafe_disk_budget_bytes", "What they may take (0: no bound).", registry=registry)
        self._seen = dict.fromkeys((self._rows, self._failures, self._damaged, self._conflicts, self._lost_decoders), 0)

    def update(self, worker: Ingester, disk: DiskBudget) -> None:
        """Take the worker's and the disk's figures of this moment."""
        disk.measure()
        self._used.set(disk.used_bytes)
        self._budget.set(disk.budget_bytes)
        lag = worker.lag()
        self._frames.set(lag.frames)
        self._bytes.set(lag.bytes)
        self._seconds.set(lag.seconds)
        self._committing.set(round(worker.committing_s(), 3))
        figures = {
            self._rows: worker.rows,
            self._failures: worker.failures,
            self._damaged: worker.damaged_bytes(),
            self._conflicts: worker.conflicts,
            self._lost_decoders: worker.lost_decoders,
        }
        for counter, value in figures.items():
            counter.inc(max(0, value - self._seen[counter]))
            self._seen[counter] = value


def _publish(worker: Ingester, disk: DiskBudget, directory: Path, stop: threading.Event) -> None:
    metrics = IngesterMetrics()
    while True:
        stopping = stop.wait(PUBLISH_S)
        try:
            metrics.update(worker, disk)
            metric_files.publish(directory, "ingester", metrics.registry)
        except OSError as error:
            logger.error("can't publish metrics to %s: %s; ingesting goes on", directory, error)
        if stopping:
            return
