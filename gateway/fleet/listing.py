"""The fleet as people see it: what is declared and served, what is drained, and how the workers find it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import Metric

from gateway.ledger import metric_files
from gateway.ledger.drains import Drain
from gateway.ledger.errors import NotFound
from gateway.ledger.registry import Student
from gateway.settings import BackendSettings, Settings, root_of

# As `gateway.metrics` names them and `gateway.fleet.observation` fills them.
_STATES = ("closed", "recovering", "half_open", "open")


@dataclass(frozen=True)
class BackendRow:
    """A backend of one model. What no worker has told of is None.

    `state`: the worst of the workers' breakers (`closed`, `recovering`, `half_open`, `open`). `in_flight`: this house's
    open requests; `running` and `waiting`: the server's own count of everybody's; `kv_cache`: 0 to 1.
    """

    model: str
    url: str
    weight: float
    tier: int
    drained: bool
    drained_by: str | None
    drained_since: datetime | None
    state: str | None
    in_flight: int | None
    running: int | None
    waiting: int | None
    kv_cache: float | None


def rows(settings: Settings, students: Iterable[Student], drains: Iterable[Drain]) -> list[BackendRow]:
    """Return every backend of every model, in the order of the settings file, then of the registry."""
    out = {drain.url: drain for drain in drains}
    told = _Told(settings.data_dir)
    return [_row(model, server, out.get(root_of(server.url)), told) for model, server in _servers(settings, students)]


def check_known(url: str, settings: Settings, students: Iterable[Student]) -> None:
    """Raise `NotFound` for a URL that no model uses: a misspelt one would drain nothing, and say nothing."""
    known = sorted({root_of(server.url) for _, server in _servers(settings, students)})
    if url not in known:
        raise NotFound(f"{url} is no backend of any model; there are: {', '.join(known)}")


def _servers(settings: Settings, students: Iterable[Student]) -> list[tuple[str, BackendSettings]]:
    declared = [(model.name, server) for model in settings.models for server in model.servers]
    return declared + [(student.reference, BackendSettings(student.url)) for student in students if student.url]


def _row(model: str, server: BackendSettings, drain: Drain | None, told: _Told) -> BackendRow:
    url = root_of(server.url)
    states = told.values("spiritsafe_backend_state", model, url)
    kv_cache = told.values("spiritsafe_backend_kv_cache_ratio", model, url)
    in_flight = told.values("spiritsafe_backend_requests_in_flight", model, url)
    return BackendRow(
        model,
        url,
        server.weight,
        server.tier,
        drain is not None,
        None if drain is None else drain.operator,
        None if drain is None else drain.created,
        _STATES[int(max(states))] if states else None,
        int(sum(in_flight)) if in_flight else None,
        _largest(told.values("spiritsafe_backend_requests", model, url, state="running")),
        _largest(told.values("spiritsafe_backend_requests", model, url, state="waiting")),
        max(kv_cache, default=None),
    )


def _largest(values: Sequence[float]) -> int | None:
    return int(max(values)) if values else None


class _Told:
    """The gauges that living workers published last, one value a worker."""

    def __init__(self, data_dir: Path) -> None:
        self._metrics: dict[str, Metric] = {
            metric.name: metric for metric in metric_files.collect(data_dir / "metrics")
        }

    def values(self, metric: str, model: str, url: str, **labels: str) -> list[float]:
        wanted = {"model": model, "backend": url, **labels}.items()
        samples = self._metrics[metric].samples if metric in self._metrics else []
        return [sample.value for sample in samples if wanted <= sample.labels.items()]
