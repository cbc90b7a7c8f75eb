"""A head that came before on its connection is taken for what it was; whatever differs is parsed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.ledger import keys
from gateway.protocol.call import Call
from gateway.protocol.head import Head
from gateway.protocol.listener import _known
from tests.fakes import FakeVllm
from tests.gateway.conftest import RunningGateway


def body(text: str) -> bytes:
    """Return a chat request."""
    return json.dumps({"model": "teacher", "messages": [{"role": "user", "content": text}]}).encode()


def request(key: str, text: str, *extra: str, end: bytes = b"\r\n") -> bytes:
    """Return a request as an SDK sends it."""
    content = body(text)
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", *extra, f"Content-Length: {len(content)}", "X-Stainless-Lang: python"]
    return end.join(line.encode() for line in lines) + end + end + content


@contextmanager
def connected(house: RunningGateway) -> Iterator[socket.socket]:
    """Open a connection."""
    host, _, port = house.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        yield client


def answer(client: socket.socket) -> int:
    """Read one answer and return its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    while len(rest) < length:
        rest += client.recv(65536)
    assert len(rest) == length
    return int(head[9:12])


def texts(vllm: FakeVllm) -> list[str]:
    """Return the prompts that reached the backend."""
    return [got.body["messages"][0]["content"] for got in vllm.received]


def test_the_same_head_brings_other_bodies(house: RunningGateway, vllm: FakeVllm) -> None:
    """Longer, shorter, in pieces and two at once: each is answered and recorded as what it is."""
    key = house.key()
    sent = ["one", "another one", "", "x" * 5000, "two"]
    with connected(house) as client:
        for text in sent:
            client.sendall(request(key, text))
            assert answer(client) == 200
        split = request(key, "in pieces")
        for part in (split[:40], split[40:-5], split[-5:]):
            client.sendall(part)
        assert answer(client) == 200
        client.sendall(request(key, "pipelined 1") + request(key, "pipelined 2"))
        assert [answer(client), answer(client)] == [200, 200]
        client.sendall(request(key, "last"))
        assert answer(client) == 200
    expected = [*sent, "in pieces", "pipelined 1", "pipelined 2", "last"]
    assert texts(vllm) == expected
    assert [record["messages"][0]["content"] for record in house.frames()] == expected


def test_a_head_that_differs_is_parsed(house: RunningGateway, vllm: FakeVllm) -> None:
    """Another key, another header, another path: nothing of the head before counts."""
    key = house.key()
    with connected(house) as client:
        client.sendall(request(key, "mine"))
        assert answer(client) == 200
        client.sendall(request(key[:-1] + ("a" if key[-1] != "a" else "b"), "not mine"))
        assert answer(client) == 401
        client.sendall(request(key, "named", "X-Request-Id: job-1"))
        assert answer(client) == 200
        client.sendall(request(key, "elsewhere").replace(b"/v1/chat/completions", b"/v1/completions", 1))
        assert answer(client) == 400
    assert texts(vllm) == ["mine", "named"]
    assert house.frames()[1]["extra"]["request_id"] == "job-1"


def test_a_revoked_key_is_refused_on_its_old_connection(own_house: RunningGateway) -> None:
    """Whose head it is was found by one control state, and is found again by the next."""
    key = own_house.key()
    with connected(own_house) as client:
        client.sendall(request(key, "before"))
        assert answer(client) == 200
        with own_house.database.write() as connection:
            (row,) = keys.every(connection, "acme")
            keys.revoke(connection, row.id, "test")
        own_house.synchronise()
        client.sendall(request(key, "after"))
        assert answer(client) == 401


@pytest.mark.parametrize("length", [b"+30", b"0x1e", b"3 0", b"", b"1234567890", b"30\r\nContent-Length: 4"])
def test_a_length_that_is_none_is_the_parsers_business(house: RunningGateway, vllm: FakeVllm, length: bytes) -> None:
    """Only digits are taken; whatever else stands there gets what it gets on a fresh connection."""
    key = house.key()
    odd = request(key, "odd")
    size = str(len(body("odd"))).encode()
    odd = odd.replace(b"Content-Length: " + size, b"Content-Length: " + length)
    with connected(house) as client:
        client.sendall(request(key, "plain"))
        assert answer(client) == 200
        client.sendall(odd)
        client.shutdown(socket.SHUT_WR)
        reused = client.recv(65536)[:12]
    with connected(house) as client:
        client.sendall(odd)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536)[:12] == reused
    assert texts(vllm) == ["plain"]


def known(data: bytes, *pairs: tuple[bytes, bytes], keep_alive: bool = True) -> bool:
    """Would the head of this read be known?"""
    head = Head(b"/v1/chat/completions", list(pairs))

    async def nothing(call: Call) -> None:
        return

    return _known(data, Call(None, head, "", keep_alive), nothing) is not None  # type: ignore[arg-type]


def test_only_a_plain_head_is_known() -> None:
    """Not one whose body has another frame, whose lines are not its headers, or that ends its connection."""
    plain = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    length = (b"content-length", b"2")
    assert known(plain, length)
    assert not known(plain, length, keep_alive=False)
    assert not known(plain.replace(b"\r\n", b"\n"), length)
    assert not known(plain.replace(b"Content-Length: 2", b"Content-Length:2"), length)
    assert not known(plain.replace(b"2\r\n", b"2\r\n folded\r\n"), length)
    chunked = plain.replace(b"2\r\n", b"2\r\nTransfer-Encoding: chunked\r\n")
    assert not known(chunked, length, (b"transfer-encoding", b"chunked"))
    assert not known(plain.replace(b"2\r\n", b"2\r\nExpect: 100-continue\r\n"), length, (b"expect", b"100-continue"))
