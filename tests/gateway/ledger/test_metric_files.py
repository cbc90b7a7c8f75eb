"""Metrics of many processes: nothing is lost, nothing is counted twice, and Prometheus can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from gateway.ledger import metric_files

PUBLISHER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from gateway.ledger import metric_files

    directory, process, amount, buckets = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4]
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["model"], registry=registry).labels("a \\"quoted\\" name").inc(amount)
    Gauge("lag_seconds", "Lag.", registry=registry).set(amount)
    seconds = Histogram("wait_seconds", "Waiting.", buckets=[float(b) for b in buckets.split()], registry=registry)
    seconds.observe(amount)
    Histogram("unused_seconds", "Never observed.", ["model"], registry=registry)
    metric_files.publish(directory, process, registry)
    print("published", flush=True)
    sys.stdin.read()
""")


class Publisher:
    """A real process that publishes once and then waits to be told to end."""

    def __init__(self, directory: Path, process: str, amount: float, buckets: str = "1 5") -> None:
        command = [sys.executable, "-c", PUBLISHER, str(directory), process, str(amount), buckets]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"published\n"

    def kill(self) -> None:
        """End it the hard way."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def publishers() -> Iterator[list[Publisher]]:
    """A list whose publishers are ended after the test."""
    started: list[Publisher] = []
    yield started
    for publisher in started:
        publisher.kill()


def samples(text: str) -> dict[str, float]:
    """Every sample of an exposition by `name{labels}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


REQUESTS = 'requests_total{model=a "quoted" name}'


@pytest.mark.slow
def test_totals_survive_a_killed_process(tmp_path: Path, publishers: list[Publisher]) -> None:
    """A process killed at any time leaves its counters and histograms in the sum, once, however often it is read."""
    publishers += [Publisher(tmp_path, "gateway-w0", 2), Publisher(tmp_path, "gateway-w1", 3)]
    assert samples(metric_files.merge(tmp_path))[REQUESTS] == 5
    publishers[0].kill()
    for _ in range(3):
        merged = samples(metric_files.merge(tmp_path))
        assert merged[REQUESTS] == 5
        assert merged["wait_seconds_count{}"] == 2
        assert merged["wait_seconds_bucket{le=5.0}"] == 2
    publishers.append(Publisher(tmp_path, "gateway-w0", 10))
    assert samples(metric_files.merge(tmp_path))[REQUESTS] == 15


def test_gauges_are_of_the_living(tmp_path: Path, publishers: list[Publisher]) -> None:
    """A gauge is shown for each living process under its name, and goes when the process does."""
    publishers += [Publisher(tmp_path, "gateway-w0", 2), Publisher(tmp_path, "gateway-w1", 3)]
    merged = samples(metric_files.merge(tmp_path))
    assert (merged["lag_seconds{process=gateway-w0}"], merged["lag_seconds{process=gateway-w1}"]) == (2, 3)
    publishers[0].kill()
    merged = samples(metric_files.merge(tmp_path))
    assert "lag_seconds{process=gateway-w0}" not in merged
    assert merged["lag_seconds{process=gateway-w1}"] == 3


def test_a_fold_stopped_halfway_doubles_nothing(tmp_path: Path, publishers: list[Publisher]) -> None:
    """A reader killed between writing the total and deleting the file has not counted the file twice."""
    publishers.append(Publisher(tmp_path, "gateway-w0", 4))
    publishers[0].kill()
    file = next(tmp_path.glob("gateway-w0-*.json"))
    content = file.read_bytes()
    metric_files.merge(tmp_path)
    assert not file.exists()
    file.write_bytes(content)
    assert samples(metric_files.merge(tmp_path))[REQUESTS] == 4
    assert samples(metric_files.merge(tmp_path))[REQUESTS] == 4


def test_changed_buckets_start_anew(tmp_path: Path, publishers: list[Publisher]) -> None:
    """A histogram whose buckets a release changed is shown with the new ones, not as a mixture."""
    publishers.append(Publisher(tmp_path, "gateway-w0", 2, "1 5"))
    publishers[0].kill()
    metric_files.merge(tmp_path)
    publishers.append(Publisher(tmp_path, "gateway-w0", 3, "2 10"))
    merged = samples(metric_files.merge(tmp_path))
    assert merged["wait_seconds_count{}"] == 1
    assert "wait_seconds_bucket{le=5.0}" not in merged
    assert merged[REQUESTS] == 5


def test_an_unreadable_file_hides_nothing(tmp_path: Path, publishers: list[Publisher]) -> None:
    """One broken file is left out and the rest is shown."""
    publishers.append(Publisher(tmp_path, "gateway-w0", 2))
    (tmp_path / "gateway-w1-1-1.json").write_text("{")
    assert samples(metric_files.merge(tmp_path))[REQUESTS] == 2


def test_no_files_is_no_metrics(tmp_path: Path) -> None:
    """Before anything has published the answer is empty, not an error."""
    assert metric_files.merge(tmp_path / "metrics") == ""


def test_totals_of_the_release_before_are_kept(tmp_path: Path, publishers: list[Publisher]) -> None:
    """A file in which every sample is a row of name, labels and value goes on counting."""
    row = ["requests_total", {"model": 'a "quoted" name'}, 40.0]
    gauge = ["lag_seconds", {}, 3.0]
    families = {
        "requests": {"type": "counter", "help": "Requests.", "samples": [row]},
        "lag_seconds": {"type": "gauge", "help": "Lag.", "samples": [gauge]},
    }
    (tmp_path / metric_files.DEAD).write_text(
        json.dumps({"families": {"requests": families["requests"]}, "folded": []})
    )
    document = {"process": "gateway-w9", "pid": os.getpid(), "started": metric_files.started_at(os.getpid())}
    (tmp_path / "gateway-w9-1-1.json").write_text(json.dumps({**document, "families": families}))
    publishers.append(Publisher(tmp_path, "gateway-w0", 2))
    merged = samples(metric_files.merge(tmp_path))
    assert merged[REQUESTS] == 82
    assert merged["lag_seconds{process=gateway-w9}"] == 3


def test_a_process_that_hangs_is_told_by_its_age(tmp_path: Path, publishers: list[Publisher]) -> None:
    """What a process last published is shown until it dies, and how long ago that was stands beside it."""
    publishers.append(Publisher(tmp_path, "detector", 2))
    file = next(tmp_path.glob("detector-*.json"))
    os.utime(file, (time.time() - 500, time.time() - 500))
    age = samples(metric_files.merge(tmp_path))["spiritsafe_metrics_age_seconds{process=detector}"]
    assert 500 <= age < 600
    publishers[0].kill()
    assert "metrics_age" not in metric_files.merge(tmp_path)


def test_no_number_is_not_shown(tmp_path: Path) -> None:
    """JSON has no infinity, and a page without one is better than none."""
    registry = CollectorRegistry()
    gauge = Gauge("lag_seconds", "Lag.", ["of"], registry=registry)
    gauge.labels("a").set(float("inf"))
    gauge.labels("b").set(1)
    metric_files.publish(tmp_path, "ingester", registry)
    found = samples(metric_files.merge(tmp_path))
    assert found["lag_seconds{of=b,process=ingester}"] == 1
    assert "lag_seconds{of=a,process=ingester}" not in found
