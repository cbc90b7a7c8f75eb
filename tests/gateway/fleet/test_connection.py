"""The upstream client: every way to break an answer is an error of the right kind, and everything is bounded."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    GatewayError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.fleet.connection import HttpResponse, UpstreamClient, _Connection
from gateway.fleet.upstream import Deadline
from tests.fakes import Drop, FakeVllm, Hang, Wait, fake_vllm, framed, response, stream_head
from tests.gateway.conftest import eventually
from tests.properties import examples


@pytest_asyncio.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    """An upstream client."""
    upstream = UpstreamClient()
    yield upstream
    await upstream.close()


def soon(seconds: float = 5.0) -> Deadline:
    """Return a deadline that a healthy answer keeps."""
    return Deadline.after(seconds, "The test was not over")


async def post(client: UpstreamClient, vllm: FakeVllm, body: bytes = b"{}") -> HttpResponse:
    """Send a request."""
    return await client.post(f"{vllm.url}/v1/chat/completions", body, b"", soon())


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([Drop()], UpstreamDisconnected),
        ([Drop(reset=True)], UpstreamDisconnected),
        ([b"SSH-2.0-OpenSSH_9.9\r\n\r\n", Drop()], UpstreamProtocol),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", Drop()], UpstreamDisconnected),
        ([stream_head(), framed(b"data: x\n\n"), Drop()], UpstreamDisconnected),
        ([stream_head(), framed(b"data: x\n\n"), b"zz\r\n", Drop()], UpstreamError),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", Drop()], UpstreamProtocol),
    ],
)
async def test_broken_answers(
    client: UpstreamClient, script: list[bytes | Drop], kind: type[GatewayError], vllm: FakeVllm
) -> None:
    """Each way to break an answer is an error of the right kind, be it at the head or in the body."""
    for _ in range(2):
        vllm.play(*script)

    async def post_and_read() -> bytes:
        return await (await post(client, vllm)).read()

    async def post_and_consume() -> None:
        await (await post(client, vllm)).consume(lambda block: None)

    for ask in (post_and_read, post_and_consume):
        with pytest.raises(kind) as raised:
            await ask()
        assert vllm.url.removeprefix("http://") not in raised.value.message


async def test_refused_and_unknown(client: UpstreamClient) -> None:
    """A port where nobody listens and a name that nobody has are unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://nobody.invalid"):
        with pytest.raises(UpstreamUnreachable):
            await client.post(f"{url}/v1/chat/completions", b"{}", b"", soon())


@pytest.mark.parametrize("url", ["", "http://", "http://a b/", "http://[::1/", "http://h:99999/", "http://h/\r\nx: y"])
async def test_an_address_that_is_none(client: UpstreamClient, url: str) -> None:
    """A URL that can't be asked is unreachable, and nothing is sent anywhere."""
    with pytest.raises(UpstreamUnreachable):
        await client.get(url, 1.0)


async def test_connections_are_kept(client: UpstreamClient, vllm: FakeVllm) -> None:
    """Answers that were read to their end leave their connection to the next request."""
    for _ in range(5):
        answer = await post(client, vllm, b'{"model": "teacher"}')
        await answer.read()
        answer.close()
    assert vllm.connections == 1


async def test_an_abandoned_answer_reaches_the_backend(client: UpstreamClient, vllm: FakeVllm) -> None:
    """Closing an answer early, or giving up on its head, closes the connection: that is how vLLM learns of it."""
    vllm.play(stream_head(), framed(b"data: x\n\n"), Hang())
    answer = await post(client, vllm)
    answer.close()
    vllm.play(Hang())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await post(client, vllm)
    await asyncio.to_thread(eventually, lambda: all(request.left.is_set() for request in vllm.received))
    assert len(vllm.received) == 2


async def test_deadlines(client: UpstreamClient, vllm: FakeVllm) -> None:
    """An answer that is late says which deadline passed, and its connection is closed; a new deadline replaces it."""
    vllm.play(Hang())
    with pytest.raises(UpstreamTimeout, match="The head did not come within"):
        await client.post(f"{vllm.url}/v1/chat/completions", b"{}", b"", Deadline.after(0.1, "The head did not come"))
    vllm.play(stream_head(), framed(b"data: x\n\n"), Hang())
    answer = await post(client, vllm)
    answer.expire(Deadline.after(0.1, "The rest did not come"))
    with pytest.raises(UpstreamTimeout, match="The rest did not come"):
        await answer.read()
    await asyncio.to_thread(eventually, lambda: all(request.left.is_set() for request in vllm.received))


async def test_retry_after_of_a_backend(client: UpstreamClient, vllm: FakeVllm) -> None:
    """A number of seconds is understood, anything else is no promise."""
    vllm.play(response(b"{}", 503, extra="retry-after: 7\r\n"))
    vllm.play(response(b"{}", 503, extra="retry-after: Tue, 24 Nov 2026 10:00:00 GMT\r\n"))
    found = [(await post(client, vllm)).retry_after for _ in range(2)]
    assert found == [7.0, None]


async def test_blocks_are_consumed_as_they_come(client: UpstreamClient, vllm: FakeVllm) -> None:
    """A consumer gets every block in the read that brought it, and the body's end ends the wait."""
    vllm.play(stream_head(), framed(b"one"), Wait(0.05), framed(b"two"), b"0\r\n\r\n")
    blocks: list[bytes] = []
    await (await post(client, vllm)).consume(blocks.append)
    assert blocks == [b"one", b"two"]


async def test_what_a_consumer_raises_ends_the_answer(client: UpstreamClient, vllm: FakeVllm) -> None:
    """An error of ours, or a bug, reaches whoever waits; the backend's work is aborted."""

    def object_to(block: bytes) -> None:
        raise ValueError(block)

    vllm.play(stream_head(), framed(b"one"), Hang())
    with pytest.raises(ValueError, match="one"):
        await (await post(client, vllm)).consume(object_to)
    await asyncio.to_thread(eventually, lambda: vllm.received[0].left.is_set())


async def test_a_paused_answer_waits(client: UpstreamClient, vllm: FakeVllm) -> None:
    """Pausing stops the reading; what arrived before the pause is not lost."""
    vllm.play(stream_head(), *[framed(b"x" * 65536) for _ in range(64)], b"0\r\n\r\n")
    answer = await post(client, vllm)
    sizes: list[int] = []

    def take(block: bytes) -> None:
        sizes.append(len(block))
        answer.pause()

    task = asyncio.create_task(answer.consume(take))
    await asyncio.sleep(0.2)
    assert sum(sizes) < 1024 * 1024
    while not task.done():
        answer.resume()
        await asyncio.sleep(0)
    assert sum(sizes) == 64 * 65536


async def test_everything_is_bounded(client: UpstreamClient, vllm: FakeVllm) -> None:
    """A head and an answer without an end are given up, and what nobody reads is not read."""
    vllm.play(b"HTTP/1.1 200 OK\r\n", *[b"x-filler: " + b"x" * 8000 + b"\r\n" for _ in range(20)], Hang())
    with pytest.raises(UpstreamProtocol):
        await post(client, vllm)
    vllm.play(stream_head(), *[framed(b"x" * 65536) for _ in range(64)], Hang())
    answer = await post(client, vllm)
    with pytest.raises(UpstreamProtocol):
        await answer.read(limit=1000)
    answer.close()
    assert len((await client.get(f"{vllm.url}/v1/models", 5.0, limit=3))[1]) == 3


async def test_interim_answers_and_bodies_without_a_length(client: UpstreamClient, vllm: FakeVllm) -> None:
    """A 1xx is passed over; a body without a length ends with its connection, which is not used again."""
    vllm.play(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", response(b"{}"))
    answer = await post(client, vllm)
    assert (answer.status, await answer.read()) == (200, b"{}")
    vllm.play(b"HTTP/1.1 200 OK\r\n\r\nall of ", Wait(0.05), b"it", Drop())
    assert await (await post(client, vllm)).read() == b"all of it"
    assert await (await post(client, vllm, b'{"model": "teacher"}')).read()


async def test_more_than_was_promised(client: UpstreamClient, vllm: FakeVllm) -> None:
    """What follows an answer belongs to nobody: the connection is not used again."""
    for number, surplus in enumerate((b"HTTP/1.1 201 OK\r\nx: y\r\ncontent-length: 4\r\n\r\nevil", b"evil"), 1):
        vllm.play(response(b"{}") + surplus)
        first = await post(client, vllm)
        assert (first.status, await first.read()) == (200, b"{}")
        second = await post(client, vllm, b'{"model": "teacher"}')
        assert b"evil" not in await second.read()
        assert vllm.connections == 2 * number
        await client.close()


async def test_tls(client: UpstreamClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a certificate that is trusted is asked over TLS; one that nobody vouches for is unreachable."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"{}"))

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1/models"
    with pytest.raises(UpstreamUnreachable):
        await client.get(url, 5.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = UpstreamClient()
    assert await trusting.get(url, 5.0) == (200, b"{}")
    await trusting.close()
    server.close()


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_whatever_a_server_sends(data: st.DataObject) -> None:
    """Mutilated answers, cut anywhere, are an answer or an upstream error, at once; nothing else comes out."""
    whole = [response(b'{"a": 1}'), stream_head() + framed(b"data: x\n\n") + b"0\r\n\r\n"]
    sent = bytearray(data.draw(st.sampled_from(whole)))
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(sent)))
        sent[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=4)))
    reads = [bytes(sent[start:end]) for start, end in itertools.pairwise([0, *cuts, len(sent)]) if end > start]

    async def ask() -> None:
        connection = _Connection({})
        connection.connection_made(Mute())
        answer = connection.send(b"", b"", {})
        for read in reads:
            if connection.transport.is_closing():
                break
            connection.data_received(read)
        connection.connection_lost(None)
        try:
            async with asyncio.timeout(1.0):
                await answer.head()
                assert 200 <= answer.status <= 999
                await answer.read()
        except UpstreamError:
            pass

    asyncio.run(ask())


class Mute(asyncio.Transport):
    """A transport that leads nowhere."""

    closed = False

    def write(self, data: object) -> None:
        """Send nothing."""

    def abort(self) -> None:
        """Close."""
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        """Is it closed?"""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def pause_reading(self) -> None:
        """Nothing is read anyway."""

    resume_reading = pause_reading


def test_the_fake_is_torn_down() -> None:
    """A stopped fake refuses connections, as a killed server does."""
    with fake_vllm() as fake:
        port = fake.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
