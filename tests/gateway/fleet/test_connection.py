"""The border to the HTTP client: its errors become ours, all of them, and abandoning an answer reaches the backend."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from gateway.errors import (
    GatewayError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocol,
    UpstreamUnreachable,
)
from gateway.fleet.connection import TRANSLATIONS, UpstreamClient, translate, translated
from tests.fakes import Drop, FakeVllm, Hang, fake_vllm, framed, response, stream_head
from tests.gateway.conftest import eventually


@pytest_asyncio.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    """An upstream client."""
    upstream = UpstreamClient()
    yield upstream
    await upstream.close()


def _all_errors() -> list[type[Exception]]:
    found: list[type[Exception]] = [aiohttp.http_exceptions.HttpProcessingError, ConnectionResetError, OSError]
    waiting: list[type[Exception]] = [aiohttp.ClientError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_is_translated(kind: type[Exception]) -> None:
    """Whatever the HTTP client raises becomes an upstream error of ours, with a text that leaks no address."""
    error = translate(kind.__new__(kind))
    assert isinstance(error, UpstreamError)
    assert "http" not in error.message.lower().replace("valid http", "")


def test_the_most_specific_translation_comes_first() -> None:
    """No entry of the table is hidden by one before it."""
    for number, (kind, _, _) in enumerate(TRANSLATIONS):
        assert not any(issubclass(kind, earlier) for earlier, _, _ in TRANSLATIONS[:number]), kind


def test_our_own_deadlines_pass() -> None:
    """A time-out that is ours is not taken for one of the backend's."""
    with pytest.raises(TimeoutError), translated():
        raise TimeoutError


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
        return await (await client.post(f"{vllm.url}/v1/chat/completions", b"{}", {})).read()

    with pytest.raises(kind):
        await post_and_read()


async def test_refused_and_unknown(client: UpstreamClient) -> None:
    """A port where nobody listens and a name that nobody has are unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://nobody.invalid"):
        with pytest.raises(UpstreamUnreachable):
            await client.post(f"{url}/v1/chat/completions", b"{}", {})


async def test_connections_are_kept(client: UpstreamClient, vllm: FakeVllm) -> None:
    """Answers that were read to their end leave their connection to the next request."""
    for _ in range(5):
        answer = await client.post(f"{vllm.url}/v1/chat/completions", b'{"model": "teacher"}', {})
        await answer.read()
        answer.close()
    assert vllm.connections == 1


async def test_an_abandoned_answer_reaches_the_backend(client: UpstreamClient, vllm: FakeVllm) -> None:
    """Closing an answer early, or giving up on its head, closes the connection: that is how vLLM learns of it."""
    vllm.play(stream_head(), framed(b"data: x\n\n"), Hang())
    answer = await client.post(f"{vllm.url}/v1/chat/completions", b"{}", {})
    answer.close()
    vllm.play(Hang())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.post(f"{vllm.url}/v1/chat/completions", b"{}", {})
    await asyncio.to_thread(eventually, lambda: all(request.left.is_set() for request in vllm.received))
    assert len(vllm.received) == 2


async def test_retry_after_of_a_backend(client: UpstreamClient, vllm: FakeVllm) -> None:
    """A number of seconds is understood, anything else is no promise."""
    vllm.play(response(b"{}", 503, extra="retry-after: 7\r\n"))
    vllm.play(response(b"{}", 503, extra="retry-after: Tue, 24 Nov 2026 10:00:00 GMT\r\n"))
    found = [(await client.post(f"{vllm.url}/v1/chat/completions", b"{}", {})).retry_after for _ in range(2)]
    assert found == [7.0, None]


def test_the_fake_is_torn_down() -> None:
    """A stopped fake refuses connections, as a killed server does."""
    with fake_vllm() as fake:
        port = fake.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
