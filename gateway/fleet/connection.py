"""The upstream HTTP client; the only file that names the library. Its errors become ours here and nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp

from gateway.errors import (
    GatewayError,
    UpstreamDisconnected,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)

CONNECT_TIMEOUT_S = 3.0
# vLLM closes idle connections after 5 s; ours must be gone before, or a request meets one that is closing.
KEEP_ALIVE_S = 4.0
WATCH_S = 1.0
LONGEST_ANSWER = 64 * 1024 * 1024  # bytes of an answer that is not streamed

# The most specific first. aiohttp's time-outs are connection errors too, its connection errors are OSErrors.
TRANSLATIONS: tuple[tuple[type[Exception], type[GatewayError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, UpstreamUnreachable, "The model's server can't be reached."),
    (aiohttp.ServerTimeoutError, UpstreamTimeout, "The model's server sent nothing for too long."),
    (aiohttp.ClientConnectorError, UpstreamUnreachable, "The model's server can't be reached."),
    (aiohttp.ServerFingerprintMismatch, UpstreamUnreachable, "The model's server can't be reached."),
    (aiohttp.InvalidURL, UpstreamUnreachable, "The model's server can't be reached."),
    (aiohttp.ClientConnectionError, UpstreamDisconnected, "The model's server closed the connection."),
    (aiohttp.ClientPayloadError, UpstreamDisconnected, "The model's server broke off its answer."),
    (aiohttp.ClientError, UpstreamProtocol, "The model's server did not answer in valid HTTP."),
    (aiohttp.http_exceptions.HttpProcessingError, UpstreamProtocol, "The model's server did not answer in valid HTTP."),
    (OSError, UpstreamDisconnected, "The connection to the model's server failed."),
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the library's errors inside the block into ours; a time-out of our own deadlines passes."""
    try:
        yield
    except tuple(foreign for foreign, _, _ in TRANSLATIONS) as error:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            raise
        raise translate(error) from error


def translate(error: Exception) -> GatewayError:
    """Return our error for one of the library's."""
    for foreign, ours, message in TRANSLATIONS:
        if isinstance(error, foreign):
            return ours(message, retry_after=2.0 if ours is UpstreamUnreachable else None)
    raise TypeError(f"{type(error).__name__} is no error of the HTTP client") from error


class UpstreamResponse:
    """A backend's answer: status and headers are there, the body is read as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._connection = response.connection
        self.status = response.status
        self._watch_connection()

    @property
    def retry_after(self) -> float | None:
        """Seconds of its `retry-after`, where it is a number."""
        value = self._response.headers.get("retry-after", "")
        return float(value) if value.isdecimal() else None

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body in whatever pieces arrive, each at once; reading pauses while the caller does not ask."""
        content = self._response.content
        while True:
            with translated():
                block = await content.readany()
            if not block:
                return
            yield block

    async def read(self) -> bytes:
        """Read all of the body."""
        parts: list[bytes] = []
        size = 0
        async for block in self.blocks():
            size += len(block)
            if size > LONGEST_ANSWER:
                raise UpstreamProtocol("The model's server sent an answer without an end.")
            parts.append(block)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _watch_connection(self) -> None:
        # A body whose framing breaks off makes the library close the connection and tell the reader nothing.
        content = self._response.content
        self._watch = asyncio.get_running_loop().call_later(WATCH_S, self._watch_connection)
        transport = self._connection.transport if self._connection is not None else None
        if content.is_eof() or content.exception() is not None:
            self._watch.cancel()
        elif transport is None or transport.is_closing():
            self._watch.cancel()
            content.set_exception(aiohttp.ClientPayloadError("the connection ended inside the body"))

    def close(self) -> None:
        """Give the connection back when all was read; else close it, which makes vLLM abort the generation."""
        self._watch.cancel()
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class UpstreamClient:
    """Connections to all backends, kept alive; `close` at the end."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=30, socket_factory=_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            # Deadlines are the caller's, one per request; only connecting has its own.
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=None),
        )

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> UpstreamResponse:
        """Send a request and wait for status and headers; raises `UpstreamError` of the fitting kind."""
        with translated():
            return UpstreamResponse(await self._session.post(url, data=body, headers=headers, allow_redirects=False))

    async def get(self, url: str, timeout_s: float, limit: int) -> tuple[int, bytes]:
        """Return the status of a GET and at most `limit` bytes of its body."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=timeout_s)
        with translated():
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                body = bytearray()
                while len(body) < limit and (block := await response.content.readany()):
                    body += block
                return response.status, bytes(body[:limit])

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection
