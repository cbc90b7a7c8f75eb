"""What the metrics say of the fleet."""

from __future__ import annotations

from prometheus_client import generate_latest

from gateway.fleet.budget import RetryBudget
from gateway.fleet.observation import FleetObserver
from gateway.fleet.pools import Fleet, Pool
from gateway.metrics import GatewayMetrics

URL = "http://127.0.0.1:1001"


def page(metrics: GatewayMetrics) -> str:
    """Return the metrics as Prometheus reads them."""
    return generate_latest(metrics.registry).decode()


def test_models_that_are_gone_are_no_series() -> None:
    """Students come and go with their ports."""
    metrics, fleet = GatewayMetrics(), Fleet()
    observer = FleetObserver(metrics)
    observer.observe([("a", fleet.pool("a", [URL]))])
    assert f'spiritsafe_backend_state{{backend="{URL}",model="a"}} 0.0' in page(metrics)
    observer.observe([])
    assert URL not in page(metrics)


def test_retries_are_counted_once() -> None:
    """Also when a model leaves and comes back with a new budget."""
    metrics = GatewayMetrics()
    observer = FleetObserver(metrics)
    for times in (3, 2):
        budget = RetryBudget()
        for _ in range(times):
            budget.withdraw()
            observer.observe([("a", Pool("a", [], budget=budget))])
            observer.observe([("a", Pool("a", [], budget=budget))])
    assert 'spiritsafe_upstream_retries_total{model="a",outcome="made"} 5.0' in page(metrics)
