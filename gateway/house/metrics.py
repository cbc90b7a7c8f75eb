"""The house's own metrics: which processes and models stand, and how often they had to be started again."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.ledger.house_status import ProcessStatus


class HouseMetrics:
    """Made from the status of the processes; published like those of every process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process_up = Gauge(
            "spiritsafe_process_up", "Whether a process of the house is ready (1).", ["process"], registry=self.registry
        )
        self.model_healthy = Gauge(
            "spiritsafe_model_healthy", "Whether a model served here is ready (1).", ["model"], registry=self.registry
        )
        self.restarts = Counter(
            "spiritsafe_process_restarts", "Times a process was started again.", ["process"], registry=self.registry
        )
        self._counted: dict[str, int] = {}

    def update(self, processes: Iterable[ProcessStatus]) -> None:
        """Bring the figures in line; a process that the house no longer keeps loses its gauges."""
        self.process_up.clear()
        self.model_healthy.clear()
        for status in processes:
            ready = float(status.state == "ready")
            self.process_up.labels(status.name).set(ready)
            if status.kind == "model":
                self.model_healthy.labels(status.name).set(ready)
            counter = self.restarts.labels(status.name)
            counter.inc(max(0, status.restarts - self._counted.get(status.name, 0)))
            self._counted[status.name] = status.restarts
