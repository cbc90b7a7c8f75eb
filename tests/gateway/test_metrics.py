"""A worker's metrics: what the request path appends to becomes a histogram, labels have a bound, a scrape is cheap."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from benchmarks.scrape import busy_worker, scrape_cpu_s
from gateway.errors import CODES, REJECTED, counted_as
from gateway.ledger import metric_files
from gateway.metrics import SampledHistogram
from tests.fakes import FakeVllm, error_response
from tests.gateway.conftest import RunningGateway

VALUES = (0.05, 0.1, 0.1000001, 3.0, 99.0)
BUSY_CPU_S = 0.05


def test_a_sampled_histogram_is_a_histogram() -> None:
    """Its samples are those of prometheus_client's own, bounds included, and reading twice counts once."""
    bounds = (0.1, 1.0, 5.0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    sampled = SampledHistogram("wait_seconds", "Waiting.", ("lane",), bounds, ours)
    plain = Histogram("wait_seconds", "Waiting.", ("lane",), buckets=bounds, registry=theirs)
    for value in VALUES:
        sampled.series('a "b"')(value)
        plain.labels('a "b"').observe(value)
        generate_latest(ours)
    text = generate_latest(theirs).decode()
    wanted = [line for line in text.splitlines() if line.startswith("wait_seconds_") and "_created" not in line]
    found = [line for line in generate_latest(ours).decode().splitlines() if line.startswith("wait_seconds_")]
    assert sorted(found) == sorted(wanted)


def test_a_codes_bound_is_the_error_tree() -> None:
    """A backend's own code counts as one thing, ours as themselves, no error as none."""
    assert (counted_as(None), counted_as("rate_limit_exceeded")) == ("", "rate_limit_exceeded")
    assert counted_as("model-7-is-tired") == REJECTED
    assert REJECTED not in CODES


def ask(house: RunningGateway, key: str, number: int, **fields: object) -> httpx.Response:
    """One request in which everything that a caller may write is of its own."""
    body = {"model": "teacher", "messages": [{"role": "user", "content": "Hi"}], "user": f"user-{number}"}
    headers = {
        "authorization": f"Bearer {key}",
        "user-agent": f"agent-{number}/1.0",
        "x-request-id": f"request-{number}",
        "traceparent": f"00-{number:032x}-{number:016x}-01",
    }
    return house.http.post("/v1/chat/completions", json=body | fields, headers=headers)


def flood(house: RunningGateway, vllm: FakeVllm, key: str, numbers: range) -> None:
    """Accounts, keys, users, agents, models, tags and codes of backends that nobody has seen before."""
    for number in numbers:
        own = house.key(f"account-{number}") if number % 10 == 1 else key
        assert ask(house, own, number).status_code == 200
        assert ask(house, f"sk-safe-{number}", number).status_code == 401
        assert ask(house, key, number, model=f"model-{number}").status_code == 404
        vllm.play(error_response(400, "No.", code=f"code-{number}"))
        assert ask(house, key, number, metadata={"tag": f"tag-{number}"}).status_code == 400
        assert house.http.get(f"/v1/nothing-{number}").status_code == 404


def series(house: RunningGateway, folder: Path) -> set[str]:
    """Every sample's name and labels, as they are scraped."""
    house.worker._observe()
    metric_files.publish(folder, "gateway-w0", house.worker.metrics.registry)
    page = metric_files.merge(folder)
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


def test_a_flood_makes_no_new_series(house: RunningGateway, vllm: FakeVllm, tmp_path: Path) -> None:
    """What callers and backends write is no label: a hundred of everything leave the series that two have made."""
    key = house.key()
    flood(house, vllm, key, range(2))
    before = series(house, tmp_path)
    counted = len(house.worker.recorder._series)
    flood(house, vllm, key, range(2, 102))
    assert series(house, tmp_path) == before
    assert len(house.worker.recorder._series) == counted
    written = ("account-", "agent-", "code-", "model-", "user-", "tag-")
    assert not [name for name in before if any(word in name for word in written)]


@pytest.mark.slow
def test_a_busy_house_is_scraped_in_time(tmp_path: Path) -> None:
    """Four busy workers' metrics, some 6,000 lines, are added up and written within 50 ms of CPU."""
    metrics = busy_worker()
    for number in range(4):
        metric_files.publish(tmp_path, f"gateway-w{number}", metrics.registry)
    took, page = scrape_cpu_s(tmp_path)
    assert page.count("\n") > 5000
    assert took < BUSY_CPU_S
