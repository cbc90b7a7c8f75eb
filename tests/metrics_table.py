"""The table of docs/metrics.md, made from what every process registers; `python -m tests.metrics_table` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from dashboards.notifications.service import Metrics as NotificationMetrics
from detector.service import Metrics as DetectorMetrics
from gateway.commands.ingester import IngesterMetrics
from gateway.house.metrics import HouseMetrics
from gateway.ledger import metric_files
from gateway.metrics import GatewayMetrics
from gateway.operator import Figures
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "metrics.md"
BEGIN, END = "<!-- made by `python -m tests.metrics_table` -->\n", "<!-- end of what is made -->\n"
UNITS = {
    "_seconds": "s",
    "_bytes": "bytes",
    "_ratio": "0–1",
    "_tokens": "tokens",
    "_usage": "tokens",
    "_dollars_per_token": "$ per token",
}


@dataclass(frozen=True)
class Row:
    """A metric: the name under which it is scraped (of a histogram without `_bucket`, `_sum`, `_count`)."""

    process: str
    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    @property
    def unit(self) -> str:
        """What one of it is, by the end of its name."""
        stem = self.name.removesuffix("_total")
        return next((unit for suffix, unit in UNITS.items() if stem.endswith(suffix)), "")

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which queries find it."""
        if self.type != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def rows() -> list[Row]:
    """Return every metric of every process, in the order of the code."""
    registries = {
        "gateway": GatewayMetrics().registry,
        "ingester": IngesterMetrics().registry,
        "detector": DetectorMetrics().registry,
        "operator": Figures().registry,
        "notifier": NotificationMetrics().registry,
        "up": HouseMetrics().registry,
    }
    age = Row("operator", metric_files.AGE, "gauge", ("process",), metric_files.AGE_IS)
    return [*(row for process, registry in registries.items() for row in _rows(process, registry)), age]


def table() -> str:
    """Return the table in Markdown."""
    head = "| metric | type | unit | labels | is | from |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| `{row.name}` | {row.type} | {row.unit} | {' '.join(f'`{label}`' for label in row.labels)} "
        f"| {row.text.rstrip('.')} | {row.process} |\n"
        for row in rows()
    )


def with_table(page: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, "docs/metrics.md lacks the marks that the table stands between"
    return before + BEGIN + "\n" + table() + "\n" + END + after


def _rows(process: str, registry: CollectorRegistry) -> Iterator[Row]:
    # prometheus_client has no public way to ask for the labels of a metric that has no sample yet.
    for collector in registry._collector_to_names:
        labels: tuple[str, ...] = getattr(collector, "_labelnames", ()) or getattr(collector, "_labels", ())
        metric = next(iter(collector.describe() if hasattr(collector, "describe") else collector.collect()))
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Row(process, name, metric.type, tuple(labels), metric.documentation)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
