"""What the metrics say of the fleet: read from it once a second, so that a request counts nothing for it."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.fleet.breaker import State
from gateway.fleet.pools import Pool
from gateway.metrics import GatewayMetrics
from gateway.protocol.exchange import Prices

_STATES: dict[State, int] = {"closed": 0, "recovering": 1, "half_open": 2, "open": 3}


class FleetObserver:
    """Brings the fleet's metrics up to date."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._counted: dict[tuple[str, str], int] = {}

    def observe(self, pools: Iterable[tuple[str, Pool]]) -> None:
        """Show the models that there are now, and no others."""
        gauges = (
            self._metrics.backend_up,
            self._metrics.backend_inflight,
            self._metrics.backend_state,
            self._metrics.backend_drained,
            self._metrics.backend_requests,
            self._metrics.backend_kv_cache,
            self._metrics.backend_prefix_tokens,
        )
        for gauge in gauges:
            gauge.clear()
        for model, pool in pools:
            self._count(model, pool)
            self._show(model, pool)

    def show_prices(self, prices: Iterable[tuple[str, Prices, Prices]]) -> None:
        """Show of each model what a token costs, and what one of its teacher's would, given in nano-dollars.

        Money is tokens times these, so that a request counts nothing for it.
        """
        gauges = self._metrics.price, self._metrics.teacher_price
        for gauge in gauges:
            gauge.clear()
        for model, *both in prices:
            for gauge, pair in zip(gauges, both, strict=True):
                for kind, price in zip(("input", "output"), pair, strict=True):
                    gauge.labels(model, kind).set(price / 1e9)

    def _show(self, model: str, pool: Pool) -> None:
        for backend in pool.backends:
            self._metrics.backend_up.labels(model, backend.url).set(backend.up)
            self._metrics.backend_inflight.labels(model, backend.url).set(backend.inflight)
            self._metrics.backend_state.labels(model, backend.url).set(_STATES[backend.breaker.state])
            self._metrics.backend_drained.labels(model, backend.url).set(backend.drained)
            load = backend.load
            if load is not None:
                self._metrics.backend_requests.labels(model, backend.url, "running").set(load.running)
                self._metrics.backend_requests.labels(model, backend.url, "waiting").set(load.waiting)
                self._metrics.backend_kv_cache.labels(model, backend.url).set(load.kv_cache)
                self._metrics.backend_prefix_tokens.labels(model, backend.url, "queried").set(load.prefix_queries)
                self._metrics.backend_prefix_tokens.labels(model, backend.url, "hit").set(load.prefix_hits)

    def _count(self, model: str, pool: Pool) -> None:
        for outcome, total in (("made", pool.budget.spent), ("refused", pool.budget.refused)):
            counter, name = self._metrics.upstream_retries.labels(model, outcome), (model, outcome)
            # A model that left and came back has a new budget, which counts from nothing.
            known = self._counted.get(name, 0)
            counter.inc(total - known if total >= known else total)
            self._counted[name] = total
