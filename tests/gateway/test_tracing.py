"""Traces: a collector in the test's own process gets the steps of a request, in the caller's trace, without a text."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import TracingSettings
from tests.fakes import FakeVllm, error_response, fake_vllm
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for

SECRETIVE = "my grandmother's recipe"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes OTLP/HTTP's JSON; `status` 503 refuses it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[dict[str, Any]]:
        """All spans, their attributes as a dictionary of plain values."""
        found = []
        for body in self.bodies:
            for resource in json.loads(body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [span | {"attributes": _plain(span.get("attributes", []))} for span in scope["spans"]]
        return found

    def until(self, number: int) -> dict[str, dict[str, Any]]:
        """Wait for so many spans; they by kind and name."""
        eventually(lambda: len(self.spans()) >= number, 10)
        assert len(self.spans()) == number
        return {f"{span['kind']} {span['name']}": span for span in self.spans()}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep what came."""
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/json")
        if self.server.status == 200:
            self.server.bodies.append(body)
        self.send_response(self.server.status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def _plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on loopback."""
    server = Collector()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture
def house(tmp_path: Path, vllm: FakeVllm, collector: Collector) -> Iterator[RunningGateway]:
    """A gateway that traces what callers ask it to."""
    settings = settings_for(tmp_path, vllm.url)
    tracing = TracingSettings(collector.url, sample=0.0)
    with running_gateway(dataclasses.replace(settings, tracing=tracing)) as running:
        yield running


def ask(house: RunningGateway, traceparent: str | None = None, stream: bool = False) -> httpx.Response:
    """One chat request of a caller that may be traced."""
    headers = {"authorization": f"Bearer {house.key()}"} | ({"traceparent": traceparent} if traceparent else {})
    body = {
        "model": "teacher",
        "messages": [{"role": "user", "content": SECRETIVE}],
        "user": "grandson",
        "stream": stream,
    }
    return house.http.post("/v1/chat/completions", json=body, headers=headers)


def test_the_steps_of_a_stream(house: RunningGateway, vllm: FakeVllm, collector: Collector) -> None:
    """Spans stand in the caller's trace, one within the other; the backend's go on from ours; no text is in them."""
    assert ask(house, f"00-{TRACE}-{PARENT}-01", stream=True).status_code == 200
    spans = collector.until(4)
    whole, upstream = spans["2 chat teacher"], spans["3 chat teacher"]
    assert {span["traceId"] for span in spans.values()} == {TRACE}
    assert whole["parentSpanId"] == PARENT
    assert {spans[name]["parentSpanId"] for name in ("1 receive", "1 route", "3 chat teacher")} == {whole["spanId"]}
    assert vllm.received[0].headers["traceparent"] == f"00-{TRACE}-{upstream['spanId']}-01"
    first = int(whole["events"][0]["timeUnixNano"])
    begun, ended = int(whole["startTimeUnixNano"]), int(whole["endTimeUnixNano"])
    assert begun <= int(upstream["startTimeUnixNano"]) <= first <= ended
    assert all(
        begun <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= ended for span in spans.values()
    )
    facts = whole["attributes"]
    assert facts["gen_ai.operation.name"] == "chat"
    assert (facts["gen_ai.request.model"], facts["gen_ai.response.model"]) == ("teacher", "teacher")
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == ("7", "3")
    assert (facts["http.response.status_code"], facts["spiritsafe.route.reason"]) == ("200", "pinned")
    sent = b"".join(collector.bodies)
    assert not [word for word in (SECRETIVE, "Hello", "acme", "grandson", "sk-safe") if word.encode() in sent]


def test_a_failure_is_one_in_the_trace(house: RunningGateway, vllm: FakeVllm, collector: Collector) -> None:
    """The error's code is there, its text is not."""
    vllm.play(error_response(400, f"No: {SECRETIVE}"))
    assert ask(house, f"00-{TRACE}-{PARENT}-01").status_code == 400
    whole = collector.until(4)["2 chat teacher"]
    assert whole["status"]["code"] == 2
    assert whole["attributes"]["error.type"] == "invalid_request_error"
    assert SECRETIVE.encode() not in b"".join(collector.bodies)


def test_what_is_not_sampled_is_not_sent(house: RunningGateway, vllm: FakeVllm, collector: Collector) -> None:
    """The caller's no, which the backend hears as it is, and the draw of a request without a word on it."""
    ask(house, f"00-{TRACE}-{PARENT}-00")
    ask(house)
    ask(house, f"00-{'ab' * 16}-{PARENT}-01")
    assert {span["traceId"] for span in collector.until(4).values()} == {"ab" * 16}
    no, none, yes = (received.headers.get("traceparent") for received in vllm.received)
    assert (no, none) == (f"00-{TRACE}-{PARENT}-00", None)
    assert yes is not None
    assert PARENT not in yes


def test_a_trace_of_our_own_has_the_records_id(tmp_path: Path, vllm: FakeVllm, collector: Collector) -> None:
    """Who has the one finds the other."""
    tracing = TracingSettings(collector.url, sample=1.0)
    with running_gateway(dataclasses.replace(settings_for(tmp_path, vllm.url), tracing=tracing)) as house:
        ask(house)
        (trace_id,) = {span["traceId"] for span in collector.until(4).values()}
        assert trace_id == house.record()["id"].replace("-", "")
        assert trace_id in house.record()["extra"]["traceparent"]


def test_a_collector_that_is_away_costs_nothing(house: RunningGateway, collector: Collector) -> None:
    """Requests are served, and what was dropped is counted."""
    collector.status = 503
    assert ask(house, f"00-{TRACE}-{PARENT}-01").status_code == 200
    drops = house.worker.metrics.trace_drops
    eventually(lambda: drops.count == 1, 10)
    collector.status = 200
    assert ask(house, f"00-{TRACE}-{PARENT}-01").status_code == 200
    assert len(collector.until(4)) == 4
