"""Metrics of many processes as files: each publishes its own registry, one reader adds them up.

A file belongs to one life of one process: its name carries the pid and the moment it started. Counters, histograms and
summaries are summed over all lives; when a process has died its file is folded into `dead.json`, once, so that a
restart loses nothing and doubles nothing. Gauges are shown of living processes only, each with a `process` label, and
are never summed, because a sum of ages or ratios means nothing; a query can sum or take the maximum where that does.

A sample stands in a file as it will stand on the page, `name{label="value"}`, so that whoever is scraped adds numbers
and joins lines; and a busy worker's file is a few thousand of them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

DEAD = "dead.json"
AGE = "spiritsafe_metrics_age_seconds"
AGE_IS = "Time since a process last published its metrics; a process that hangs goes on being shown as it last was."
SUMMED = frozenset({"counter", "histogram", "summary"})
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_logger = logging.getLogger(__name__)


class LineMetric(Metric):
    """A metric that comes as the lines of a page: what is not asked for as `samples` is never made into objects."""

    def __init__(self, name: str, text: str, kind: str, lines: dict[str, float]) -> None:
        super().__init__(name, text, kind)
        self.lines = lines

    @property
    def samples(self) -> list[Sample]:
        """The lines read again."""
        text = "".join(_page({self.name: _Family(self.type, self.documentation, self.lines)}))
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    @samples.setter
    def samples(self, value: list[Sample]) -> None:
        """Take the empty list that `Metric` begins with."""


@dataclass
class _Family:
    """One metric: its samples by name and labels as written, in the order in which they were first seen.

    `bounds`: the buckets of a histogram that has samples.
    """

    type: str
    help: str
    samples: dict[str, float] = field(default_factory=dict)
    bounds: list[str] = field(default_factory=list)

    def is_like(self, other: _Family) -> bool:
        """Whether the samples of both can be added: one type, and the same buckets where both have any."""
        return self.type == other.type and (not self.bounds or not other.bounds or self.bounds == other.bounds)

    def add(self, other: _Family) -> None:
        self.help, self.bounds = other.help, self.bounds or other.bounds
        if self.type not in SUMMED:
            self.samples.update(other.samples)
            return
        known = self.samples.get
        for key, value in other.samples.items():
            self.samples[key] = value + known(key, 0.0)


_Families = dict[str, _Family]


def publish(directory: Path, process: str, registry: CollectorRegistry) -> Path:
    """Write the calling process's registry to `directory`, atomically; call it about once a second and at the end.

    `process` is the name that gauges carry, such as `gateway-w0`; it may not contain a slash. Raises `OSError` when the
    folder can't be written.
    """
    pid, started = os.getpid(), started_at(os.getpid())
    path = directory / f"{process}-{pid}-{started}.json"
    families = {metric.name: _family(metric, process) for metric in registry.collect()}
    document = {"process": process, "pid": pid, "started": started, "families": families}
    directory.mkdir(parents=True, exist_ok=True)
    _replace(path, document)
    return path


def merge(directory: Path) -> str:
    """Return all processes' metrics in Prometheus's text format, having folded the files of those that died.

    Readers exclude each other with a lock on the folder, so that a file counts either by itself or in the total.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        totals, living, ages = _fold_dead(directory)
    for families in living:
        _add(totals, families)
    if ages:
        totals[AGE] = _Family("gauge", AGE_IS, ages)
    return "".join(_page(totals))


def collect(directory: Path) -> list[Metric]:
    """Return what `merge` writes as metric families, for a reader that wants the numbers."""
    return list(text_string_to_metric_families(merge(directory)))


def sample_key(name: str, labels: Mapping[str, str]) -> str:
    """Return a sample's name and labels as Prometheus's text format writes them, labels in alphabetical order."""
    if not labels:
        return name
    written = [f'{label}="{labels[label].translate(_ESCAPED)}"' for label in sorted(labels)]
    return f"{name}{{{','.join(written)}}}"


def _fold_dead(directory: Path) -> tuple[_Families, list[_Families], dict[str, float]]:
    """Bring `dead.json` up to date; return its totals, what the living have, and how long ago each wrote it."""
    total = _read(directory / DEAD) or {"families": {}, "folded": []}
    families = _families(total["families"], "")
    living: list[_Families] = []
    ages: dict[str, float] = {}
    dead: list[Path] = []
    for path in sorted(directory.glob("*-*-*.json")):
        document = _read(path)
        if document is None:
            continue
        found = _families(document["families"], document["process"])
        if started_at(document["pid"]) == document["started"]:
            living.append(found)
            ages[sample_key(AGE, {"process": document["process"]})] = _age_s(path)
            continue
        dead.append(path)
        # A name in `folded` is counted already: the reader was stopped between writing the total and deleting the file.
        if path.name not in total["folded"]:
            _add(families, {name: family for name, family in found.items() if family.type in SUMMED})
    if dead:
        _replace(directory / DEAD, {"families": families, "folded": [path.name for path in dead]})
        for path in dead:
            path.unlink(missing_ok=True)
    return families, living, ages


def _add(total: _Families, families: _Families) -> None:
    for name, family in families.items():
        known = total.get(name)
        if known is not None and known.is_like(family):
            known.add(family)
            continue
        # A release that changes a metric's type or buckets starts it anew: unlike things can't be added.
        if known is not None:
            _logger.warning("metric changed its shape, its earlier total is dropped", extra={"metric": name})
        total[name] = family


def _family(metric: Metric, process: str) -> _Family:
    family = _Family(metric.type, metric.documentation)
    if isinstance(metric, LineMetric):
        family.samples = metric.lines
        family.bounds = _bounds(metric.lines)
        return family
    for sample in metric.samples:
        # The moment a counter began in one process says nothing of the sum.
        if sample.name.endswith("_created"):
            continue
        labels = sample.labels
        # A gauge that speaks of processes itself, as the house's do, keeps its own label.
        if metric.type not in SUMMED and "process" not in labels:
            labels = {**labels, "process": process}
        family.samples[sample_key(sample.name, labels)] = sample.value
    family.bounds = _bounds(family.samples)
    return family


def _bounds(samples: Mapping[str, float]) -> list[str]:
    """Return the buckets of the first series: they end with `+Inf`, and all series of a process have the same."""
    bounds: list[str] = []
    for key in samples:
        _, found, rest = key.partition('le="')
        if found:
            bounds.append(rest.partition('"')[0])
        if bounds and (not found or bounds[-1] == "+Inf"):
            break
    return bounds


def _families(document: dict[str, Any], process: str) -> _Families:
    found = {}
    for name, row in document.items():
        samples = row["samples"]
        if isinstance(samples, list):  # as releases before 0.2 wrote them, in the totals of a house that was upgraded
            samples = _from_rows(samples, row["type"], process)
        family = found[name] = _Family(row["type"], row["help"], samples)
        family.bounds = row.get("bounds") or _bounds(samples)
        if None in samples.values():  # JSON has no infinity: what is not a number is not shown
            family.samples = {key: value for key, value in samples.items() if value is not None}
    return found


def _from_rows(rows: list[tuple[str, dict[str, str], float]], kind: str, process: str) -> dict[str, float]:
    own = {} if kind in SUMMED else {"process": process}
    return {sample_key(name, {**own, **labels}): value for name, labels, value in rows}


def _page(families: _Families) -> Iterator[str]:
    for name, family in sorted(families.items()):
        shown = f"{name}_total" if family.type == "counter" else name
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {shown} {text}\n# TYPE {shown} {family.type}\n"
        yield "".join([f"{key} {float(value)!r}\n" for key, value in family.samples.items()])


def _age_s(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0  # it ended in this moment


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        # Files are replaced atomically, so only a failing disk does this; one unreadable file must not hide the rest.
        _logger.warning("unreadable metric file left out: delete it", extra={"path": str(path)})
        return None
    return document


def _replace(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(orjson.dumps(document))
    temporary.replace(path)


def started_at(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine's boot (proc(5), field 22); 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat.rpartition(")")[2].split()
    # A zombie counts as dead: it will publish no more.
    return 0 if fields[0] == "Z" else int(fields[19])


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
