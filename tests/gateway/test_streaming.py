"""Streams: when they begin, what is in them, how they end, and what happens when somebody leaves."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.fleet.breaker import FAILURES
from gateway.protocol.listener import GatewayProtocol
from gateway.settings import GatewaySettings
from tests.fakes import (
    END,
    Drop,
    FakeVllm,
    Hang,
    Script,
    Step,
    Wait,
    chat_answer,
    chat_stream,
    chunk,
    error_response,
    event,
    fake_vllm,
    framed,
    stream_head,
    usage,
)
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for

HI: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": "teacher", "messages": HI, "stream": True}
DONE = "data: [DONE]\n\n"


def ask(house: RunningGateway, key: str | None = None, **fields: Any) -> httpx.Response:
    """Post a stream and read it to its end."""
    headers = {"authorization": f"Bearer {key or house.key()}"}
    return house.http.post("/v1/chat/completions", headers=headers, json=BODY | fields, timeout=20)


def payloads(text: str) -> list[Any]:
    """Return the JSON of a stream's events, having checked its end."""
    assert text.endswith(DONE)
    events = [part for part in text.split("\n\n") if part.startswith("data: ")]
    return [json.loads(part[6:]) for part in events[:-1]]


def said(text: str) -> str:
    """Return the content of a stream."""
    choices = [choice for found in payloads(text) for choice in found.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def begun(word: str = "Once") -> list[Step]:
    """Return the beginning of a stream, up to its first content."""
    return [
        stream_head(),
        event(chunk("teacher", {"role": "assistant", "content": ""}, usage(7, 0))),
        event(chunk("teacher", {"content": word}, usage(7, 1))),
    ]


def test_usage_is_shown_only_where_asked(house: RunningGateway, vllm: FakeVllm) -> None:
    """Upstream is always asked for usage in every chunk; a client sees the last one, all, or none, as it asked."""
    key = house.key()
    silent = payloads(ask(house, key).text)
    final = payloads(ask(house, key, stream_options={"include_usage": True}).text)
    every = {"include_usage": True, "continuous_usage_stats": True}
    continuous = payloads(ask(house, key, stream_options=every).text)
    assert not any("usage" in found for found in silent)
    assert all(found["choices"] for found in silent)
    assert [found.get("usage") for found in final if not found["choices"]] == [usage(7, 3)]
    assert not any("usage" in found for found in final if found["choices"])
    assert all(found["usage"] for found in continuous)
    assert all(request.body["stream_options"] == every for request in vllm.received)
    assert [record["usage"]["output_tokens"] for record in house.frames()] == [3, 3, 3]


def test_headers_and_cost_of_a_stream(house: RunningGateway) -> None:
    """The price of a stream stands in a comment before its terminator, as it is not known when the headers go."""
    answer = ask(house)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-spiritsafe-route-reason"] == "pinned"
    assert "x-spiritsafe-cost" not in answer.headers
    assert answer.text.endswith(f": x-spiritsafe-cost: 16000\n\n{DONE}")
    record = house.record()
    assert record["cost"] == 16000
    assert 0 < record["time_to_first_token_ms"] <= record["latency_ms"]


def test_tool_calls_of_a_stream_are_put_together(house: RunningGateway, vllm: FakeVllm) -> None:
    """The record has whole tool calls, the client the pieces."""
    pieces: list[Any] = [
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    events = [event(chunk("teacher", piece, usage(7, number))) for number, piece in enumerate(pieces, 1)]
    vllm.play(stream_head(), *events, END)
    found = payloads(ask(house).text)
    assert [item["choices"][0]["delta"] for item in found] == pieces
    function = {"name": "f", "arguments": '{"a":1}'}
    assert house.record()["response"]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]


def test_chunks_arrive_as_they_are_made(house: RunningGateway, vllm: FakeVllm) -> None:
    """A client has each chunk long before the next one exists."""
    vllm.play(*chat_stream("teacher", ["a", "b", "c", "d"], pause_s=0.15))
    times = []
    for _ in house.client().chat.completions.create(model="teacher", messages=HI, stream=True):
        times.append(time.monotonic())
    assert times[-1] - times[1] > 0.3


@pytest.mark.parametrize(
    "ending",
    [
        [Drop()],
        [Drop(reset=True)],
        [framed(b"data: {broken\n\n"), Hang()],
        [event({"error": {"message": "secret", "type": "x", "code": 500}}), END],
        [b"0\r\n\r\n"],
        [framed(b"data: [1]\n\n"), END],
    ],
    ids=["drop", "reset", "malformed", "error", "no terminator", "no object"],
)
def test_a_backend_that_fails_after_content(house: RunningGateway, vllm: FakeVllm, ending: Script) -> None:
    """The client keeps what it has, gets one error event and the terminator; nothing of another backend follows."""
    vllm.play(*begun(), Wait(0.05), *ending)
    found = payloads(ask(house).text)
    assert [item["choices"][0]["delta"].get("content") for item in found[:-1]] == ["", "Once"]
    assert set(found[-1]["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in found[-1]["error"]["message"]
    assert len(vllm.received) == 1
    record = house.record()
    assert (record["status"], record["error"]) == (200, found[-1]["error"]["code"])
    assert record["response"]["content"] == "Once"
    assert record["usage"] == {"input_tokens": 7, "output_tokens": 1, "source": "exact"}


def test_content_before_an_error_in_the_same_read(house: RunningGateway, vllm: FakeVllm) -> None:
    """What came before a failure reaches the client, also when both came in one piece."""
    vllm.play(b"".join(step for step in begun() if isinstance(step, bytes)) + framed(b"data: {broken\n\n"), Drop())
    found = payloads(ask(house).text)
    assert found[1]["choices"][0]["delta"]["content"] == "Once"
    assert found[-1]["error"]["code"] == "upstream_protocol_error"


def test_the_sdk_raises_on_a_failed_stream(house: RunningGateway, vllm: FakeVllm) -> None:
    """For the SDK's user a truncated answer is an exception, not a success."""
    vllm.play(*begun(), Drop())
    with pytest.raises(openai.APIError, match="model's server"):
        list(house.client().chat.completions.create(model="teacher", messages=HI, stream=True))


def test_before_content_another_try_is_made(house: RunningGateway, vllm: FakeVllm) -> None:
    """A role without words is no content yet: the failure is mended unseen, and the answer is of one piece."""
    vllm.play(*begun()[:2], Wait(0.05), Drop())
    answer = ask(house)
    assert said(answer.text) == "Hello there!"
    assert len(vllm.received) == 2
    assert house.record()["response"]["content"] == "Hello there!"


def test_reads_that_end_anywhere(house: RunningGateway, vllm: FakeVllm) -> None:
    """Events that arrive byte by byte come out whole."""
    whole = b"".join(
        b"data: " + json.dumps(chunk("teacher", {"content": word}, usage(7, 1))).encode() + b"\n\n" for word in "äß"
    )
    steps = [framed(whole[position : position + 7]) for position in range(0, len(whole), 7)]
    vllm.play(stream_head(), *steps, END)
    assert said(ask(house).text) == "äß"


def test_a_backend_without_usage_is_counted(house: RunningGateway, vllm: FakeVllm) -> None:
    """Where the backend gives no usage the chunks are counted, and the record says so."""
    vllm.play(stream_head(), *(event(chunk("teacher", {"content": word})) for word in "abcd"), END)
    ask(house)
    spent = house.record()["usage"]
    assert (spent["output_tokens"], spent["source"]) == (4, "counted")
    assert house.record()["cost"] > 0


def test_a_client_that_leaves_a_stream(house: RunningGateway, vllm: FakeVllm) -> None:
    """The backend is left at once, and what was made until then is billed exactly."""
    vllm.play(*begun("Once"), event(chunk("teacher", {"content": " upon"}, usage(7, 2))), Hang())
    stream = house.client().chat.completions.create(model="teacher", messages=HI, stream=True)
    words = [next(stream).choices[0].delta.content for _ in range(3)]
    stream.close()
    assert words == ["", "Once", " upon"]
    assert vllm.received[-1].left.wait(1.0)
    record = house.record()
    assert (record["status"], record["error"]) == (499, "client_left")
    assert record["usage"] == {"input_tokens": 7, "output_tokens": 2, "source": "exact"}
    assert (record["model"], record["cost"]) == ("teacher", 7 * 1000 + 2 * 3000)
    assert record["response"]["content"] == "Once upon"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_waiting(house: RunningGateway, vllm: FakeVllm, stream: bool) -> None:
    """Also before there is anything to send the backend is left at once, streamed or not."""
    vllm.play(Hang())
    with pytest.raises(httpx.ReadTimeout):
        house.http.post(
            "/v1/chat/completions",
            headers={"authorization": f"Bearer {house.key()}"},
            json=BODY | {"stream": stream},
            timeout=0.3,
        )
    assert vllm.received[-1].left.wait(1.0)
    record = house.record()
    assert (record["status"], record["usage"]["source"]) == (499, "estimated")


def test_an_abandoned_answer_is_estimated_by_pace(house: RunningGateway, vllm: FakeVllm) -> None:
    """What a backend made of an unfinished, unstreamed answer is billed at its usual pace, at most what was allowed."""
    key = house.key()
    vllm.play(Wait(0.2), chat_answer("teacher", "x", usage(7, 1000)))
    body = BODY | {"stream": False}
    headers = {"authorization": f"Bearer {key}"}
    house.http.post("/v1/chat/completions", headers=headers, json=body)
    for most in ({}, {"max_tokens": 5}):
        vllm.play(Hang())
        with pytest.raises(httpx.ReadTimeout):
            house.http.post("/v1/chat/completions", headers=headers, json=body | most, timeout=0.3)
    eventually(lambda: len(house.frames()) == 3)
    made = [record["usage"]["output_tokens"] for record in house.frames()]
    assert made[1] > 50
    assert made[2] == 5


def open_stream(house: RunningGateway) -> socket.socket:
    """Ask for a stream by hand, with a small buffer to read it into."""
    body = json.dumps(BODY).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.key()}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection(("127.0.0.1", int(house.url.rpartition(":")[2])))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.sendall(head.encode() + body)
    return client


LONG = [*begun(), *([event(chunk("teacher", {"content": "x" * 60_000}))] * 800), END]


def test_a_slow_reader_slows_the_backend(house: RunningGateway, vllm: FakeVllm) -> None:
    """A client that does not read keeps the answer at its source instead of in our memory."""
    vllm.play(*LONG)
    with open_stream(house):
        eventually(lambda: len(vllm.received) == 1)
        time.sleep(0.5)
        assert not vllm.received[-1].complete.is_set()
    assert vllm.received[-1].left.wait(2.0)
    assert house.record()["status"] == 499


def test_a_client_that_never_reads_is_cut_off(
    house: RunningGateway, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection does not stay open for ever: after a time it counts as gone, and is billed what was made."""
    monkeypatch.setattr(GatewayProtocol, "reader_timeout_s", 0.3)
    vllm.play(*LONG)
    with open_stream(house):
        eventually(lambda: len(vllm.received) == 1)
        assert vllm.received[-1].left.wait(3.0)
        assert house.record()["status"] == 499
        assert house.record()["cost"] > 0


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, shared_vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway that pings and gives up early."""
    impatient = {"ping_interval_s": 0.2, "first_token_timeout_s": 0.9, "total_timeout_s": 1.5, "body_timeout_s": 0.4}
    settings = settings_for(tmp_path_factory.mktemp("hasty"), shared_vllm.url, **impatient)
    with running_gateway(settings) as running:
        running.account()
        yield running


def test_silence_is_bridged_by_pings(hasty: RunningGateway, vllm: FakeVllm) -> None:
    """After the interval without content the stream opens with a ping, then one per interval, also between chunks."""
    hasty.hide_frames()
    vllm.play(Wait(0.5), *begun(), Wait(0.5), *chat_stream("teacher", ["!"])[1:])
    answer = ask(hasty)
    before, _, after = answer.text.partition('"Once"')
    assert before.startswith(": ping\n\n")
    assert (before.count(": ping"), after.count(": ping")) == (2, 2)
    assert said(answer.text) == "Once!"


def test_another_try_is_allowed_after_a_ping(hasty: RunningGateway, vllm: FakeVllm) -> None:
    """A ping is no content: the failure of a backend behind it is still mended."""
    vllm.play(Wait(0.3), Drop())
    answer = ask(hasty)
    assert answer.text.startswith(": ping")
    assert said(answer.text) == "Hello there!"


def test_a_failure_after_a_ping_is_an_event(hasty: RunningGateway, vllm: FakeVllm) -> None:
    """With the status line gone, even a backend's refusal is an error event, with its own words."""
    hasty.hide_frames()
    vllm.play(Wait(0.3), error_response(400, "too long"))
    answer = ask(hasty)
    assert answer.status_code == 200
    assert payloads(answer.text)[-1]["error"]["message"] == "too long"


def test_no_first_token_in_time(hasty: RunningGateway, vllm: FakeVllm) -> None:
    """The deadline that passed is named, and the backend is left."""
    hasty.hide_frames()
    vllm.play(Hang())
    found = payloads(ask(hasty).text)
    assert (found[-1]["error"]["code"], "first token" in found[-1]["error"]["message"]) == ("upstream_timeout", True)
    assert vllm.received[-1].left.wait(1.0)
    assert hasty.record()["error"] == "upstream_timeout"


def test_a_backend_that_begins_no_answer_has_failed(
    hasty: RunningGateway, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In our own time, that is: it counts like an error, and a request that is answered counts for it."""
    hasty.forgive()
    monkeypatch.setitem(FAILURES, "failing", 1)
    vllm.play(Hang())
    ask(hasty)
    (backend,) = hasty.worker.fleet.backends.values()
    assert (backend.up, backend.breaker.cause) == (False, "failing")
    assert said(ask(hasty).text) == "Hello there!"
    hasty.forgive()


@pytest.mark.parametrize("stream", [True, False])
def test_no_end_in_time(hasty: RunningGateway, vllm: FakeVllm, stream: bool) -> None:
    """The total deadline ends what goes on for ever: 504, or an error event after content."""
    hasty.hide_frames()
    vllm.play(*(begun() if stream else []), Hang())
    answer = ask(hasty, stream=stream)
    error = payloads(answer.text)[-1]["error"] if stream else answer.json()["error"]
    assert (answer.status_code, error["code"]) == (200 if stream else 504, "upstream_timeout")
    assert "not complete within 1.5 seconds" in error["message"]
    assert vllm.received[-1].left.wait(1.0)


def test_the_callers_own_deadline(hasty: RunningGateway, vllm: FakeVllm) -> None:
    """An SDK that gives up earlier than we do is answered before it does."""
    vllm.play(Hang())
    with pytest.raises(openai.InternalServerError) as caught:
        hasty.client(timeout=1.0).chat.completions.create(model="teacher", messages=HI)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


def test_a_slow_body_is_408(hasty: RunningGateway) -> None:
    """A client that does not send what it promised is refused after a time, and its connection closed."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {hasty.key()}\r\n"
    with socket.create_connection(("127.0.0.1", int(hasty.url.rpartition(":")[2])), timeout=5) as client:
        client.sendall(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
        answer = b""
        while block := client.recv(65536):
            answer += block
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
    assert hasty.record()["status"] == 408


def test_two_backends_share_and_stand_in(tmp_path: Path, vllm: FakeVllm) -> None:
    """With one backend dead every request is answered by the other, without the client noticing."""
    with fake_vllm() as second, running_gateway(settings_for(tmp_path, second.url, vllm.url)) as house:
        key = house.key()
        second.stop()
        assert [ask(house, key).status_code for _ in range(3)] == [200] * 3
        assert [record["status"] for record in house.frames()] == [200] * 3


def test_defaults_of_the_contract() -> None:
    """Without settings a ping comes after 15 seconds of silence."""
    assert GatewaySettings().ping_interval_s == 15.0
