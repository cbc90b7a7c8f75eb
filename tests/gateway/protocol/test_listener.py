"""Clients that send no HTTP, too much of it, or nothing: each is told or closed, and nothing grows meanwhile."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.protocol import listener
from gateway.protocol.listener import GatewayProtocol
from tests.fakes import FakeVllm, Wait, chat_answer, chat_stream
from tests.gateway.conftest import RunningGateway

ENDLESS = 256 * 1024 * 1024  # bytes
BUFFERS = 32 * 1024 * 1024  # more than two sockets hold of what nobody reads


@contextmanager
def connected(house: RunningGateway) -> Iterator[socket.socket]:
    """Open a connection."""
    host, _, port = house.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        yield client


def head(house: RunningGateway, *lines: str) -> bytes:
    """Return the head of a chat request, without its end."""
    fixed = ("POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {house.key()}")
    return "\r\n".join((*fixed, "content-type: application/json", *lines)).encode() + b"\r\n"


def request(house: RunningGateway, *, stream: bool = False) -> bytes:
    """Return a chat request."""
    body = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    content = json.dumps(body).encode()
    return head(house, f"content-length: {len(content)}") + b"\r\n" + content


def all_of(client: socket.socket) -> bytes:
    """Read until the connection is closed."""
    found = b""
    try:
        while block := client.recv(65536):
            found += block
    except ConnectionResetError:
        pass  # it was closed on what was still being sent
    return found


def flood(client: socket.socket, piece: bytes) -> int:
    """Send a piece again and again until nobody takes it; return how many bytes were sent."""
    sent = 0
    try:
        while sent < ENDLESS:
            client.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


def check_refusal(answer: bytes, words: str) -> None:
    """Check that it is a 400 in OpenAI's form, with an id, that ends the connection."""
    lines, _, body = answer.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nx-request-id: " in lines
    assert b"\r\nconnection: close" in lines
    error = json.loads(body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert words in error["message"]


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_what_is_no_http_is_told_so(house: RunningGateway, sent: bytes) -> None:
    """In OpenAI's form and with an id, as every other refusal."""
    with connected(house) as client:
        client.sendall(sent)
        check_refusal(all_of(client), "no valid HTTP/1.1")


def test_a_body_that_breaks_is_told_so(house: RunningGateway, vllm: FakeVllm) -> None:
    """The one whose framing is wrong, and nothing of it reaches a backend."""
    with connected(house) as client:
        client.sendall(head(house, "transfer-encoding: chunked") + b'\r\n5\r\n{"mod\r\nzz\r\n')
        check_refusal(all_of(client), "no valid HTTP/1.1")
    assert vllm.received == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_under_way_is_finished_first(house: RunningGateway, vllm: FakeVllm, stream: bool) -> None:
    """What follows a request and is no HTTP ends the connection behind its answer, and leaves the answer whole."""
    slow = chat_stream("teacher", ["a"] * 3, pause_s=0.2) if stream else [Wait(0.5), chat_answer("teacher", "a")]
    vllm.play(*slow)
    with connected(house) as client:
        client.sendall(request(house, stream=stream))
        time.sleep(0.3)
        client.sendall(b"\x00what is this?\r\n\r\n")
        answer = all_of(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}")
    assert house.record()["status"] == 200


@pytest.mark.parametrize("piece", [b"x-more: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
def test_a_head_without_an_end_is_refused(house: RunningGateway, piece: bytes) -> None:
    """Be it many headers or one that never ends: it is bounded by its size, long before its time is over."""
    began = time.monotonic()
    with connected(house) as client:
        client.sendall(head(house) + b"x-first: ")
        sent = flood(client, piece * 16)
        answer = all_of(client)
    assert sent < BUFFERS
    assert time.monotonic() - began < 10
    if answer:  # a client that still sends may be reset before it has read it
        check_refusal(answer, "headers are longer")


def test_trailers_without_an_end_are_refused(house: RunningGateway) -> None:
    """What stands behind a body is bounded like what stands before it."""
    with connected(house) as client:
        client.sendall(head(house, "transfer-encoding: chunked") + b"\r\n2\r\n{}\r\n0\r\n")
        assert flood(client, b"x-more: " + b"x" * 16000 + b"\r\n") < BUFFERS


def test_a_large_body_in_many_reads_is_no_head(house: RunningGateway, vllm: FakeVllm) -> None:
    """However it is framed, its bytes do not count."""
    body = json.dumps({"model": "teacher", "messages": [{"role": "user", "content": "x" * 500_000}]}).encode()
    parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    with connected(house) as client:
        client.sendall(head(house, "transfer-encoding: chunked", "connection: close") + b"\r\n" + chunks)
        assert all_of(client).startswith(b"HTTP/1.1 200 ")
    assert vllm.received[0].raw == body


def test_a_slow_head_is_cut_off(house: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time counts from its first byte, or from the connection's; a byte now and then does not make it longer."""
    monkeypatch.setattr(GatewayProtocol, "header_timeout_s", 0.5)
    with connected(house) as silent, connected(house) as slow:
        began = time.monotonic()
        slow.sendall(b"POST /v1/chat")
        while time.monotonic() - began < 8.0:
            time.sleep(0.2)
            try:
                slow.sendall(b"x")
            except OSError:
                break
        assert time.monotonic() - began < 5.0
        assert all_of(silent) == b""


def test_an_idle_connection_is_kept_for_its_time(house: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """And closed then; the contract's time is 75 seconds."""
    assert listener.KEEP_ALIVE_S == 75
    monkeypatch.setattr(listener, "KEEP_ALIVE_S", 1.5)
    with connected(house) as client:
        client.sendall(request(house))
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.5)
        client.sendall(request(house))
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        assert all_of(client) == b""
    assert 1.4 < time.monotonic() - began < 8.0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_http_1_0_gets_no_chunks(house: RunningGateway, stream: bool) -> None:
    """It would take their lengths for the answer: a stream's end is the connection's, as old proxies know it."""
    with connected(house) as client:
        client.sendall(request(house, stream=stream).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        lines, _, body = all_of(client).partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in lines
    assert b"\r\nconnection: close" in lines
    assert json.loads(body)["choices"] if not stream else body.startswith(b"data: {")
    assert not stream or body.endswith(b"data: [DONE]\n\n")
