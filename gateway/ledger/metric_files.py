"""Metrics of many processes as files: each publishes its own registry, one reader adds them up.

A file belongs to one life of one process: its name carries the pid and the moment it started. Counters, histograms and
summaries are summed over all lives; when a process has died its file is folded into `dead.json`, once, so that a
restart loses nothing and doubles nothing. Gauges are shown of living processes only, each with a `process` label, and
are never summed, because a sum of ages or ratios means nothing; a query can sum or take the maximum where that does.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

DEAD = "dead.json"
SUMMED = frozenset({"counter", "histogram", "summary"})
_logger = logging.getLogger(__name__)

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Family:
    """One metric: its samples by sample name and labels, in the order in which they were first seen."""

    type: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def is_like(self, other: _Family) -> bool:
        """Whether the samples of both can be added: one type, and the same buckets where both have any."""
        mine, theirs = self._bounds(), other._bounds()
        return self.type == other.type and (not mine or not theirs or mine == theirs)

    def add(self, other: _Family) -> None:
        for key, value in other.samples.items():
            self.samples[key] = value + (self.samples.get(key, 0.0) if self.type in SUMMED else 0.0)

    def _bounds(self) -> set[str]:
        return {value for _, labels in self.samples for name, value in labels if name == "le"}


_Families = dict[str, _Family]


def publish(directory: Path, process: str, registry: CollectorRegistry) -> Path:
    """Write the calling process's registry to `directory`, atomically; call it about once a second and at the end.

    `process` is the name that gauges carry, such as `gateway-w0`; it may not contain a slash. Raises `OSError` when the
    folder can't be written.
    """
    pid, started = os.getpid(), started_at(os.getpid())
    path = directory / f"{process}-{pid}-{started}.json"
    document = {"process": process, "pid": pid, "started": started, "families": _to_json(_collect(registry))}
    directory.mkdir(parents=True, exist_ok=True)
    _replace(path, document)
    return path


def merge(directory: Path) -> str:
    """Return all processes' metrics in Prometheus's text format, having folded the files of those that died.

    Readers exclude each other with a lock on the folder, so that a file counts either by itself or in the total.
    """
    return generate_latest(_Merged(collect(directory))).decode()


def collect(directory: Path) -> list[Metric]:
    """Return what `merge` writes as metric families, for a reader that wants the numbers."""
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        totals, living = _fold_dead(directory)
    for document in living:
        families = _from_json(document["families"])
        _add(totals, {name: family for name, family in families.items() if family.type in SUMMED})
        _add(totals, _gauges(families, document["process"]))
    return [_metric(name, family) for name, family in sorted(totals.items())]


def _fold_dead(directory: Path) -> tuple[_Families, list[dict[str, Any]]]:
    """Bring `dead.json` up to date; return its totals and the documents of the living."""
    total = _read(directory / DEAD) or {"families": {}, "folded": []}
    families = _from_json(total["families"])
    living: list[dict[str, Any]] = []
    dead: list[Path] = []
    for path in sorted(directory.glob("*-*-*.json")):
        document = _read(path)
        if document is None:
            continue
        if started_at(document["pid"]) == document["started"]:
            living.append(document)
            continue
        dead.append(path)
        # A name in `folded` is counted already: the reader was stopped between writing the total and deleting the file.
        if path.name not in total["folded"]:
            _add(families, {n: f for n, f in _from_json(document["families"]).items() if f.type in SUMMED})
    if dead:
        _replace(directory / DEAD, {"families": _to_json(families), "folded": [path.name for path in dead]})
        for path in dead:
            path.unlink(missing_ok=True)
    return families, living


def _add(total: _Families, families: _Families) -> None:
    for name, family in families.items():
        known = total.get(name)
        if known is None or not known.is_like(family):
            # A release that changes a metric's type or buckets starts it anew: unlike things can't be added.
            if known is not None:
                _logger.warning("metric changed its shape, its earlier total is dropped", extra={"metric": name})
            total[name] = _Family(family.type, family.help, dict(family.samples))
        else:
            known.help = family.help
            known.add(family)


def _gauges(families: _Families, process: str) -> _Families:
    found: _Families = {}
    for name, family in families.items():
        if family.type not in SUMMED:
            labelled = {(n, _label(labels, process)): value for (n, labels), value in family.samples.items()}
            found[name] = _Family(family.type, family.help, labelled)
    return found


def _label(labels: Labels, process: str) -> Labels:
    # A gauge that speaks of processes itself, as the house's do, keeps its own label.
    return labels if any(name == "process" for name, _ in labels) else (*labels, ("process", process))


def _collect(registry: CollectorRegistry) -> _Families:
    families: _Families = {}
    for metric in registry.collect():
        family = families.setdefault(metric.name, _Family(metric.type, metric.documentation))
        for sample in metric.samples:
            # The moment a counter began in one process says nothing of the sum.
            if not sample.name.endswith("_created"):
                family.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return families


def _to_json(families: _Families) -> dict[str, Any]:
    return {
        name: {
            "type": family.type,
            "help": family.help,
            "samples": [[n, dict(labels), value] for (n, labels), value in family.samples.items()],
        }
        for name, family in families.items()
    }


def _from_json(document: dict[str, Any]) -> _Families:
    return {
        name: _Family(
            row["type"], row["help"], {(n, tuple(sorted(labels.items()))): value for n, labels, value in row["samples"]}
        )
        for name, row in document.items()
    }


def _metric(name: str, family: _Family) -> Metric:
    metric = Metric(name, family.help, family.type)
    for (sample, labels), value in family.samples.items():
        metric.add_sample(sample, dict(labels), value)
    return metric


class _Merged(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        # Files are replaced atomically, so only a failing disk does this; one unreadable file must not hide the rest.
        _logger.warning("unreadable metric file left out: delete it", extra={"path": str(path)})
        return None
    return document


def _replace(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(document, separators=(",", ":")))
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
