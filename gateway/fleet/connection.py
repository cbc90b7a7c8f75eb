"""The upstream HTTP/1.1 client (RFC 9112) on httptools: the only file that knows HTTP towards backends.

Its one idea is that nobody waits more often than bytes arrive: a whole answer wakes its reader once, and the blocks of
a stream go to a consumer inside the read that brought them. `docs/decisions/0004` has what that bought over libraries.
Everything is bounded: the head, an answer, what is buffered, connecting, and the wait, by the caller's deadline.
"""

from __future__ import annotations

import asyncio
import ssl
import typing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

from gateway.errors import (
    GatewayError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocol,
    UpstreamUnreachable,
)
from gateway.fleet.upstream import Consumer, Deadline
from gateway.protocol.driving import Wakeup, apart

CONNECT_TIMEOUT_S = 3.0
# vLLM closes idle connections after 5 s; ours must be gone before, or a request meets one that is closing.
KEEP_ALIVE_S = 4.0
CLOCK_S = 0.1  # how often deadlines are looked at
MOST_IDLE = 1024  # kept connections to one server
LONGEST_HEAD = 64 * 1024
LONGEST_ANSWER = 64 * 1024 * 1024  # bytes of an answer that is not streamed
MOST_BUFFERED = 256 * 1024  # bytes of a block that nobody has asked for yet
LARGE_BODY = 64 * 1024  # from here on, copying a body costs more than writing it by itself
_NO_ADDRESS = "The model's server has an address that is none."


class HttpResponse:
    """A backend's answer: status and head are there; the body is read whole, or goes to a consumer as it comes."""

    __slots__ = (
        "_connection",
        "_consumer",
        "_done",
        "_error",
        "_headers",
        "_limit",
        "_paused",
        "_waiting",
        "_wakeup",
        "buffered",
        "parts",
        "status",
    )

    def __init__(self, connection: _Connection, waiting: dict[HttpResponse, Deadline]) -> None:
        self.status = 0
        self._connection: _Connection | None = connection
        self._headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        self.buffered = 0
        self._limit: int | None = None
        self._consumer: Consumer | None = None
        self._done = False
        self._paused = False
        self._error: GatewayError | None = None
        self._wakeup: Wakeup | None = None
        self._waiting = waiting

    @property
    def retry_after(self) -> float | None:
        """Seconds of its `retry-after`, where it is a number."""
        value = self._headers.get(b"retry-after", b"").decode("latin-1")
        return float(value) if value.isdecimal() else None

    def expire(self, deadline: Deadline) -> None:
        """Fail with `UpstreamTimeout` at the deadline (or up to `CLOCK_S` later); a later call replaces an earlier."""
        if not self._done and self._error is None:
            self._waiting[self] = deadline

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            await self._wait()

    async def read(self, limit: int = LONGEST_ANSWER) -> bytes:
        """Read all of the body; `UpstreamProtocol` when it is longer than the limit."""
        body = await self.read_some(limit)
        if len(body) > limit:
            raise UpstreamProtocol("The model's server sent an answer without an end.")
        return body

    async def read_some(self, limit: int) -> bytes:
        """Read until the body ends or is longer than the limit."""
        self._limit = limit
        self.resume()
        while not self._done and self.buffered <= limit:
            await self._wait()
        return self._take()

    async def consume(self, consumer: Consumer) -> None:
        """Hand every block to the consumer in the read that brought it, until the body ends.

        The consumer must not wait; it calls `pause` when it can't take more for now. What it raises ends the answer,
        and is raised here.
        """
        self._consumer = consumer
        try:
            self._hand_over()
            self.resume()
            while not self._done:
                await self._wait()
        finally:
            self._consumer = None  # it may well hold this answer

    def pause(self) -> None:
        """Let the backend wait, once what was read is handed over."""
        if not self._paused and not self._done and self._connection is not None:
            self._paused = True
            self._connection.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._connection is not None:
            self._connection.transport.resume_reading()
        self._paused = False

    def close(self) -> None:
        """Stop waiting. An answer that was not read to its end takes its connection along: so vLLM aborts its work."""
        self._waiting.pop(self, None)
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def fail(self, error: GatewayError) -> None:
        """End the answer with an error, for whoever waits for it."""
        if self._done or self._error is not None:
            return
        self._error = error
        self.close()
        self._wake()

    # --- for the connection ---

    def received_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Take status and headers."""
        self.status, self._headers = status, headers

    def received_end(self) -> None:
        """Take note that the body is complete; the connection is free."""
        self._done, self._connection = True, None
        self._waiting.pop(self, None)

    def after_read(self) -> None:
        """Hand over what one read has brought."""
        if self._consumer is not None:
            self._hand_over()
            if self._done:
                self._wake()
        elif self._limit is not None:
            if self._done or self.buffered > self._limit:
                self._wake()
        elif self.status:
            self._wake()
            if self.buffered > MOST_BUFFERED:
                self.pause()

    def _hand_over(self) -> None:
        if self.parts and self._consumer is not None:
            parts = self.parts
            block = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self.buffered = 0
            try:
                self._consumer(block)
            except GatewayError as error:
                self._end_by(error)
            except Exception as error:  # noqa: BLE001 — it is raised again, where somebody waits for the answer
                self._end_by(_ConsumerFailed(error))

    def _end_by(self, error: GatewayError) -> None:
        # The last block may hold what the consumer objects to: the answer is complete then, and wrong all the same.
        self._done = False
        self.fail(error)

    def _take(self) -> bytes:
        parts, self.parts, self.buffered = self.parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait(self) -> None:
        if self._error is None:
            self._wakeup = Wakeup()
            await self._wakeup
        if isinstance(self._error, _ConsumerFailed):
            raise self._error.cause
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.give()


class _ConsumerFailed(GatewayError):
    """A bug in a consumer, on its way to whoever waits."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("")
        self.cause = cause


@dataclass(eq=False)
class _Target:
    """One URL of a backend: where to connect to, the beginning of the request's head, connections to use again."""

    host: str
    port: int
    tls: bool
    head: bytes
    idle: dict[_Connection, float] = field(default_factory=dict)  # and since when; the last is the newest


class _Connection(asyncio.Protocol):
    """One connection to a backend; it carries one answer at a time."""

    transport: asyncio.Transport

    def __init__(self, idle: dict[_Connection, float]) -> None:
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._response: HttpResponse | None = None
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._in_head = True
        self._head_size = 0
        self._complete = False
        self._reusable = False

    def send(self, head: bytes, body: bytes, waiting: dict[HttpResponse, Deadline]) -> HttpResponse:
        """Send a request; its answer is the one the connection carries until it is complete."""
        self._reset()
        response = self._response = HttpResponse(self, waiting)
        if len(body) < LARGE_BODY:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        return response

    def abort(self) -> None:
        """Close at once."""
        self._response = None
        self.transport.abort()

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = typing.cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Parse one read, and hand over what it brought."""
        response = self._response
        if response is None:
            self.abort()  # nothing was asked
            return
        if self._in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._reusable = False
            if not self._complete:
                self._fail(response, UpstreamProtocol("The model's server did not answer in valid HTTP."))
        if self._in_head and self._head_size > LONGEST_HEAD:
            self._fail(response, UpstreamProtocol("The model's server sent a head without an end."))
        if self._complete:
            self._release()
        response.after_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits; a body without a length ends with its connection."""
        self._idle.pop(self, None)
        del self._parser  # it knows this connection: what refers to itself is freed late
        response, self._response = self._response, None
        if response is None:
            return
        if exc is None and not self._in_head and not self._has_length():
            response.received_end()
            response.after_read()
        else:
            response.fail(UpstreamDisconnected("The model's server left before its answer was complete."))

    # --- the parser's side ---

    def on_message_begin(self) -> None:
        """Take what follows a complete answer in the same read for nobody's: the connection is not used again."""
        if self._complete:
            self._reusable = False
            self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the parser has the whole of it."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Pass on status and headers; those of an interim answer (1xx) mean nothing here."""
        status = self._parser.get_status_code()
        if status >= 200 and self._response is not None and not self._complete:
            self._in_head = False
            self._response.received_head(status, self._headers)

    def on_body(self, block: bytes) -> None:
        """Pass on a piece of the body."""
        response = self._response
        if response is not None and not self._complete:
            response.parts.append(block)
            response.buffered += len(block)

    def on_message_complete(self) -> None:
        """Note the end of the answer, or of an interim one."""
        if self._in_head:
            self._headers = {}
        elif not self._complete:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()  # once this returns, the parser has forgotten

    def _release(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.received_end()
        # A request that was answered before all of it was sent would run into the next one.
        sent = not self.transport.get_write_buffer_size() and not self.transport.is_closing()
        if sent and self._reusable and len(self._idle) < MOST_IDLE:
            self._idle[self] = self._loop.time()
        else:
            self.transport.close()

    def _has_length(self) -> bool:
        return b"content-length" in self._headers or b"transfer-encoding" in self._headers

    def _fail(self, response: HttpResponse, error: UpstreamError) -> None:
        response.fail(error)
        self.abort()


class UpstreamClient:
    """Connections to all backends, kept alive; `close` at the end. Used on one event loop."""

    def __init__(self) -> None:
        self._targets: dict[tuple[str, str], _Target] = {}
        self._idle: dict[tuple[str, int, bool], dict[_Connection, float]] = {}
        self._tls: ssl.SSLContext | None = None
        # One clock for all answers: a timer for each would cost more than a look at each every now and then.
        self._waiting: dict[HttpResponse, Deadline] = {}
        self._clock: asyncio.TimerHandle | None = None

    async def post(self, url: str, body: bytes, lines: bytes, deadline: Deadline) -> HttpResponse:
        """Send a request and wait for status and headers; raises `UpstreamError` of the fitting kind.

        `lines` are header lines, each with its end; those that the connection needs come besides.
        """
        target = self._target("POST", url)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (target.head, lines, len(body))
        return await self._ask(target, head, body, deadline)

    async def get(self, url: str, timeout_s: float, limit: int = 1024 * 1024) -> tuple[int, bytes]:
        """Return status and body (at most `limit` bytes) of a GET."""
        target = self._target("GET", url)
        deadline = Deadline.after(timeout_s, "The model's server did not answer")
        try:
            return await self._get(target, deadline, limit)
        except UpstreamDisconnected:
            # A kept connection may have been closing (RFC 9112 § 9.3.1); a second failure is the server's.
            return await self._get(target, deadline, limit)

    async def _get(self, target: _Target, deadline: Deadline, limit: int) -> tuple[int, bytes]:
        response = await self._ask(target, target.head + b"\r\n", b"", deadline)
        try:
            return response.status, (await response.read_some(limit))[:limit]
        finally:
            response.close()

    async def close(self) -> None:
        """Close the connections that are not in use."""
        if self._clock is not None:
            self._clock.cancel()
        for idle in self._idle.values():
            for connection in list(idle):
                connection.abort()
            idle.clear()
        await asyncio.sleep(0)

    async def _ask(self, target: _Target, head: bytes, body: bytes, deadline: Deadline) -> HttpResponse:
        connection = self._kept(target)
        if connection is None:
            connection = await apart(self._connect(target, deadline), _Connection.abort)
            if connection.transport.is_closing():
                raise UpstreamDisconnected("The model's server left before it was asked.")
        response = connection.send(head, body, self._waiting)
        response.expire(deadline)
        if self._clock is None:
            self._look_at_the_clock()
        try:
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    def _look_at_the_clock(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for response, deadline in [late for late in self._waiting.items() if late[1].at <= now]:
            response.fail(deadline.error())
        self._clock = loop.call_later(CLOCK_S, self._look_at_the_clock) if self._waiting else None

    def _kept(self, target: _Target) -> _Connection | None:
        if not target.idle:
            return None
        connection, since = target.idle.popitem()
        if connection._loop.time() - since < KEEP_ALIVE_S and not connection.transport.is_closing():
            return connection
        # It is the newest: the others are older still.
        for old in (connection, *target.idle):
            old.transport.close()
        target.idle.clear()
        return None

    async def _connect(self, target: _Target, deadline: Deadline) -> _Connection:
        loop = asyncio.get_running_loop()
        context = self._tls_context() if target.tls else None
        try:
            async with asyncio.timeout_at(min(deadline.at, loop.time() + CONNECT_TIMEOUT_S)):
                _, connection = await loop.create_connection(
                    lambda: _Connection(target.idle), target.host, target.port, ssl=context
                )
        except (OSError, UnicodeError) as error:  # a time-out and every error of TLS are OSErrors
            raise UpstreamUnreachable("The model's server can't be reached.", retry_after=2.0) from error
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _target(self, method: str, url: str) -> _Target:
        target = self._targets.get((method, url))
        if target is None:
            target = self._targets[method, url] = self._parse(method, url)
        return target

    def _parse(self, method: str, url: str) -> _Target:
        try:
            parts = urlsplit(url)
            tls = parts.scheme == "https"
            host, port = parts.hostname or "", parts.port or (443 if tls else 80)
            name = parts.netloc.rpartition("@")[2]
            head = f"{method} {parts.path or '/'} HTTP/1.1\r\nhost: {name}\r\n".encode("ascii")
        except ValueError as error:
            raise UpstreamUnreachable(_NO_ADDRESS, retry_after=5.0) from error
        if not host or head.count(b"\r\n") != 2:
            raise UpstreamUnreachable(_NO_ADDRESS, retry_after=5.0)
        return _Target(host, port, tls, head, self._idle.setdefault((host, port, tls), {}))
