"""Every metric of a gateway worker, on one screen: OpenTelemetry's GenAI names where they exist, else `spiritsafe_…`.

No label names an account, a key or an end user. Label values are bounded: models come from settings and registry, codes
from the error tree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.ledger.metric_files import LineMetric, sample_key

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
_OVERHEAD = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)

# OpenTelemetry's words for what is neither a chat nor, as Responses and Messages are, one in other clothes.
OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}


@dataclass
class _Series:
    """One label set: values not yet counted, what was counted per bucket (the last is +Inf), and its lines' keys."""

    counts: list[int]
    buckets: list[str]
    count_key: str
    sum_key: str
    pending: list[float] = field(default_factory=list)
    total: float = 0.0

    def count(self, bounds: Sequence[float]) -> None:
        """Count what waits; the request path may append while this runs."""
        waiting = len(self.pending)
        for value in self.pending[:waiting]:
            self.counts[bisect_left(bounds, value)] += 1
            self.total += value
        del self.pending[:waiting]

    def lines(self) -> Iterator[tuple[str, float]]:
        """Name each bucket's cumulated count, the count of all, and the sum."""
        yield from zip(self.buckets, accumulate(self.counts), strict=True)
        yield self.count_key, sum(self.counts)
        yield self.sum_key, self.total


class SampledHistogram(Collector):
    """A histogram for the request path: observing appends to a list, and who reads the metrics does the counting.

    prometheus_client's own histogram takes a lock and walks its buckets at every observation, which is several
    microseconds of every request.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, tuple(buckets)
        self._series: dict[tuple[str, ...], _Series] = {}
        registry.register(self)

    def series(self, *labels: str) -> Callable[[float], None]:
        """Return what observes a value of that label set; keep it, as looking it up costs more than calling it."""
        found = self._series.get(labels)
        if found is None:
            found = self._series.setdefault(labels, self._new_series(dict(zip(self._labels, labels, strict=True))))
        return found.pending.append

    def describe(self) -> Iterator[Metric]:
        """Name the metric, its labels included, for the registry's check of names and for the documentation."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[LineMetric]:
        """Count what was observed since the last time; one thread at a time."""
        lines: dict[str, float] = {}
        for series in list(self._series.values()):
            series.count(self._bounds)
            lines.update(series.lines())
        yield LineMetric(self._name, self._text, "histogram", lines)

    def _new_series(self, labels: dict[str, str]) -> _Series:
        bounds = (*map(str, map(float, self._bounds)), "+Inf")
        buckets = [sample_key(f"{self._name}_bucket", {**labels, "le": bound}) for bound in bounds]
        count, total = (sample_key(f"{self._name}_{part}", labels) for part in ("count", "sum"))
        return _Series([0] * len(bounds), buckets, count, total)


class Tally:
    """How often something happened; add to `count`."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class TalliedCounter(Collector):
    """A counter for the request path: adding is all it takes, without prometheus_client's lock."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def tally(self, *labels: str) -> Tally:
        """Return the tally of that label set; keep it."""
        return self._tallies.setdefault(labels, Tally())

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Name the metric, for the registry's check of names."""
        yield CounterMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the tallies."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, tally in list(self._tallies.items()):
            family.add_metric(labels, tally.count)
        yield family


class GatewayMetrics:
    """The worker's own registry and what is in it."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        operation = ("gen_ai_operation_name", "gen_ai_response_model")
        self.duration = SampledHistogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a request's arrival to its last byte, by kind, model and error.",
            (*operation, "error_type"),
            _SECONDS,
            registry,
        )
        self.time_to_first_token = SampledHistogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a request's arrival to the first content of its stream.",
            operation,
            _FIRST_TOKEN,
            registry,
        )
        self.tokens = SampledHistogram(
            "gen_ai_client_token_usage",
            "Tokens of a request, by gen_ai_token_type input or output.",
            (*operation, "gen_ai_token_type"),
            _TOKENS,
            registry,
        )
        self.requests = TalliedCounter(
            "spiritsafe_requests",
            "Requests of known keys, by endpoint, model, class of the status sent and route reason.",
            ("endpoint", "model", "status", "reason"),
            registry,
        )
        self.refusals = Counter(
            "spiritsafe_refusals",
            "Requests that got an error, by its code (a backend's own: `upstream_rejected`); those without a valid key "
            "are in here only.",
            ("reason",),
            registry=registry,
        )
        overhead = SampledHistogram(
            "spiritsafe_overhead_seconds", "Time that a request spent in the gateway itself.", (), _OVERHEAD, registry
        )
        self.overhead = overhead.series()
        self.enforced = Counter(
            "spiritsafe_enforced_requests",
            "Requests that went on under a step in force against their account.",
            ["action"],
            registry=registry,
        )
        self.retries = Counter(
            "spiritsafe_client_retries", "Requests that the client's SDK marked as its own retries.", registry=registry
        )
        self.unrecorded = Counter(
            "spiritsafe_spool_drops",
            "Records that the spool did not take, by what on_spool_failure did with the request.",
            ("policy",),
            registry=registry,
        )
        self.spool_sync_failures = TalliedCounter(
            "spiritsafe_spool_sync_failures",
            "Times the spool could not be synced to the disk; it takes no record until it can.",
            (),
            registry,
        ).tally()
        self.trace_drops = TalliedCounter(
            "spiritsafe_trace_drops", "Sampled traces that no collector took.", (), registry
        ).tally()
        # Without a sample before the first drop there is nothing to alert on.
        for policy in ("refuse", "serve"):
            self.unrecorded.labels(policy)
        self.in_flight = 0
        Gauge("spiritsafe_requests_in_flight", "Requests under way.", registry=registry).set_function(
            lambda: self.in_flight
        )
        self.control_age = Gauge(
            "spiritsafe_control_state_age_seconds",
            "Time since the control plane last confirmed the keys in memory (-1: none was loaded yet).",
            registry=registry,
        )
        self.backend_up = Gauge(
            "spiritsafe_backend_up", "Is the backend up (1) or down (0)?", ("model", "backend"), registry=registry
        )
        self.backend_inflight = Gauge(
            "spiritsafe_backend_requests_in_flight",
            "Requests that this worker has open with the backend.",
            ("model", "backend"),
            registry=registry,
        )
        self.limit_refusals = Counter(
            "spiritsafe_limit_refusals",
            "Requests refused by a limit, by quantity: `rpm`, `tpm`, `parallel`, `usd_day`, `usd_month`; `queue`: a "
            "full model; `store`: a budget that could not be asked.",
            ("quantity",),
            registry=registry,
        )
        self.limit_store_up = Gauge(
            "spiritsafe_limit_store_up",
            "Does the store of the limits answer (1)? At 0 rates are divided by the gateways and budgets run dry.",
            registry=registry,
        )
        self.queue_time = SampledHistogram(
            "spiritsafe_queue_seconds",
            "Time that requests waited for a place at a full model, by lane.",
            ("lane",),
            _SECONDS,
            registry,
        )
        self.queue_length = Gauge(
            "spiritsafe_queue_length",
            "Requests that wait for a place, by model and lane.",
            ("model", "lane"),
            registry=registry,
        )
        self.backend_state = Gauge(
            "spiritsafe_backend_state",
            "The backend's breaker: 0 closed, 1 recovering, 2 half-open, 3 open.",
            ("model", "backend"),
            registry=registry,
        )
        self.backend_drained = Gauge(
            "spiritsafe_backend_drained",
            "Has an operator taken the backend out (1)?",
            ("model", "backend"),
            registry=registry,
        )
        self.backend_requests = Gauge(
            "spiritsafe_backend_requests",
            "Requests that the backend itself reports, by state running or waiting.",
            ("model", "backend", "state"),
            registry=registry,
        )
        self.backend_kv_cache = Gauge(
            "spiritsafe_backend_kv_cache_ratio",
            "How full the backend's KV cache is, 0 to 1, as it reports.",
            ("model", "backend"),
            registry=registry,
        )
        self.backend_prefix_tokens = Gauge(
            "spiritsafe_backend_prefix_tokens",
            "Prompt tokens that the backend looked up in its prefix cache since it began, by result queried or hit.",
            ("model", "backend", "result"),
            registry=registry,
        )
        priced = ("gen_ai_response_model", "gen_ai_token_type")
        self.price = Gauge(
            "spiritsafe_price_dollars_per_token", "What a token of the model costs.", priced, registry=registry
        )
        self.teacher_price = Gauge(
            "spiritsafe_teacher_price_dollars_per_token",
            "What a token would cost had the model's teacher answered; less the price it is what a student saves.",
            priced,
            registry=registry,
        )
        self.upstream_retries = Counter(
            "spiritsafe_upstream_retries",
            "Second and third tries of a request, by outcome made or refused (the budget was spent).",
            ("model", "outcome"),
            registry=registry,
        )
