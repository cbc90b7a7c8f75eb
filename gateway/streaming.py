"""The relay between client and backend: bytes pass through, nothing is held longer than it must be.

A stream's status line waits for the first content, so that a failure before it is a real status and another backend may
be tried; after some silence the stream opens with a ping instead. Nothing of another backend follows content.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from starlette.types import Send

from gateway.errors import (
    GatewayError,
    InternalError,
    NoBackend,
    UpstreamProtocol,
    UpstreamTimeout,
)
from gateway.fleet.backends import Backend
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.pools import Pool
from gateway.fleet.upstream import UpstreamResponse
from gateway.protocol.answers import Answer, error_in_stream, parse_object, upstream_refusal
from gateway.protocol.asgi import HeaderList, send_answer
from gateway.protocol.exchange import Exchange
from gateway.protocol.requests import InferenceRequest
from gateway.protocol.sse import DONE, PING, EventSplitter, comment, error_event, payload_of, without_usage

DRAIN_S = 0.5  # a backend that has said [DONE] gets this long to end its answer, so that the connection can be kept
MOST_HELD = 64 * 1024  # bytes held back before the first content

PATHS = {"chat.completions": "/v1/chat/completions", "completions": "/v1/completions"}

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Settle = Callable[[int, GatewayError | None], None]


@dataclass(frozen=True)
class Deadlines:
    """Seconds: of silence until a ping, until the first token of a stream, until an answer is complete."""

    ping_interval_s: float
    first_token_s: float
    total_s: float


@dataclass(frozen=True)
class Relay:
    """One request's way to the backends and back.

    `settle(status, error)` closes the books just before the last byte: it makes cost and record, and raises when the
    record can't be kept. `headers()` gives the headers of the answer as it begins.
    """

    client: UpstreamClient
    exchange: Exchange
    request: InferenceRequest
    pool: Pool
    send: Send
    settle: Settle
    headers: Callable[[], HeaderList]
    deadlines: Deadlines

    async def run(self) -> None:
        """Relay until the answer is complete; raises `GatewayError` only while nothing has been sent to the client."""
        if self.request.stream:
            await self._run_stream()
        else:
            await self._run_whole()

    async def _run_whole(self) -> None:
        async with Deadline(self.deadlines.total_s, "The answer was not complete"):
            body = await self._first_success(self._read_whole)
        self.settle(200, None)
        await send_answer(self.send, 200, self.headers(), body)

    async def _read_whole(self, response: UpstreamResponse) -> bytes:
        body = await response.read()
        self.exchange.timing.answered = time.perf_counter()
        document = parse_object(body)
        failure = error_in_stream(document)
        if failure is not None:
            raise failure
        self.exchange.answer.add_whole(document)
        return body

    async def _run_stream(self) -> None:
        out = ClientStream(self.send, self.headers, self.deadlines.ping_interval_s)
        deadline = Deadline(min(self.deadlines.first_token_s, self.deadlines.total_s), "The first token did not come")
        try:
            async with out.pinging(), deadline:
                await self._first_success(lambda response: self._pass_on(response, out, deadline), out, deadline)
        except GatewayError as error:
            if not out.started:
                raise
            await self._fail(out, error)
        except Exception:
            if not out.started:
                raise
            logger.exception("a stream failed by our own fault", extra={"request_id": self.exchange.request_id})
            await self._fail(out, InternalError(self.exchange.request_id))

    async def _first_success(
        self,
        read: Callable[[UpstreamResponse], Awaitable[Result]],
        out: ClientStream | None = None,
        deadline: Deadline | None = None,
    ) -> Result:
        """Try backends until one answers; after content has been sent no other may follow."""
        failure: GatewayError = NoBackend("No server of this model is up: try again shortly.")
        for number, backend in enumerate(self.pool.attempts(self.request), 1):
            try:
                return await self._attempt(backend, number, read)
            except GatewayError as error:
                if not error.retryable or (out is not None and out.content_sent):
                    raise
                failure = error
            except asyncio.CancelledError:
                # A caller's patience says nothing of the backend; that it began no answer in our own time does.
                if deadline is not None and deadline.passed and self.exchange.timing.first_content is None:
                    backend.failed(UpstreamTimeout("The first token did not come."))
                raise
        raise failure

    async def _attempt(
        self, backend: Backend, number: int, read: Callable[[UpstreamResponse], Awaitable[Result]]
    ) -> Result:
        timing = self.exchange.timing
        self.exchange.answer = Answer()
        # Our own id, unique among those in flight, whatever the client called its request: vLLM names its work by it.
        name = self.exchange.id if number == 1 else f"{self.exchange.id}-{number}"
        headers = {"content-type": "application/json", "x-request-id": name}
        body = self.request.upstream_body(self.pool.served_name)
        with backend.carrying():
            timing.forwarded = timing.forwarded or time.perf_counter()
            client = self.pool.provider or self.client
            response: UpstreamResponse = await client.post(backend.url + PATHS[self.request.endpoint], body, headers)
            try:
                if response.status != 200:
                    raise upstream_refusal(response.status, await response.read(), response.retry_after)
                return await read(response)
            finally:
                response.close()

    async def _pass_on(self, response: UpstreamResponse, out: ClientStream, deadline: Deadline) -> None:
        """Pass one backend's events on; the terminator is ours, sent when the books are closed."""
        splitter, held = EventSplitter(), b""
        async for block in response.blocks():
            passed = self._filter(splitter.feed(block))
            held += passed.data
            if passed.content and not out.content_sent:
                self._note_first_content(deadline)
            if passed.content or passed.done or out.content_sent or len(held) > MOST_HELD:
                await out.content(held)
                held = b""
            if passed.failure is not None:
                raise passed.failure
            if passed.done:
                await self._finish(out)
                await _drain(response)
                return
        raise UpstreamProtocol("The model's server ended its stream without the terminator.")

    def _note_first_content(self, deadline: Deadline) -> None:
        timing = self.exchange.timing
        timing.first_content = timing.answered = time.perf_counter()
        deadline.replace(self.deadlines.total_s - timing.elapsed_ms() / 1000, "The answer was not complete")

    def _filter(self, events: list[bytes]) -> Passed:
        """Read the events; what the client gets of them is theirs byte for byte, but for usage it did not ask for."""
        shown: list[bytes] = []
        content = False
        for event in events:
            payload = payload_of(event)
            if payload == b"[DONE]":
                return Passed(b"".join(shown), content, done=True)
            if not payload:
                continue  # a comment; pings to the client are ours
            try:
                chunk = parse_object(payload)
                failure = error_in_stream(chunk)
            except GatewayError as error:
                failure = error
            if failure is not None:
                return Passed(b"".join(shown), content, failure=failure)
            content = self.exchange.answer.add_chunk(chunk) or content
            shown += self._shown(event, payload, chunk)
        return Passed(b"".join(shown), content)

    def _shown(self, event: bytes, payload: bytes, chunk: dict[str, Any]) -> tuple[bytes, ...]:
        if not chunk.get("usage") or self.request.wants_continuous_usage:
            return event, b"\n\n"
        if not chunk.get("choices"):
            return (event, b"\n\n") if self.request.wants_usage else ()
        return b"data: ", without_usage(payload, chunk), b"\n\n"

    async def _finish(self, out: ClientStream) -> None:
        try:
            self.settle(200, None)
        except GatewayError as error:
            await out.end(error_event(error.encoded()) + DONE)
            return
        await out.end(comment(f"x-spiritsafe-cost: {self.exchange.cost}") + DONE)

    async def _fail(self, out: ClientStream, error: GatewayError) -> None:
        """End a stream that has begun: one error event, then the terminator."""
        with suppress(
            GatewayError
        ):  # the record's own failure is logged and counted; the client hears of the first one
            self.settle(200, error)
        await out.end(error_event(error.encoded()) + DONE)


@dataclass(frozen=True)
class Passed:
    """What became of some events: the client's bytes, whether they hold content, and how the stream ended."""

    data: bytes
    content: bool
    done: bool = False
    failure: GatewayError | None = None


async def _drain(response: UpstreamResponse) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in response.blocks():
                pass
    except (TimeoutError, GatewayError):
        pass  # the answer is complete; only the connection is lost


class ClientStream:
    """The client's side of a stream: the status line at the first content or ping, whole events, the end."""

    def __init__(self, send: Send, headers: Callable[[], HeaderList], ping_interval_s: float) -> None:
        self._send = send
        self._headers = headers
        self._ping_interval_s = ping_interval_s
        self._lock = asyncio.Lock()  # a ping never comes between a status line and its first event
        self._last = time.monotonic()
        self.started = False
        self.content_sent = False
        self._ended = False

    async def content(self, events: bytes) -> None:
        """Send events; waits while the client's buffer is full."""
        if events:
            self.content_sent = True
            await self._write(events, more=True)

    async def end(self, events: bytes) -> None:
        """Send the last events."""
        self._ended = True
        await self._write(events, more=False)

    @asynccontextmanager
    async def pinging(self) -> AsyncIterator[None]:
        """Inside the block, send a comment whenever nothing was sent for the interval."""
        task = asyncio.create_task(self._ping())
        try:
            yield
        finally:
            task.cancel()

    async def _ping(self) -> None:
        while not self._ended:
            idle = time.monotonic() - self._last
            if idle < self._ping_interval_s:
                await asyncio.sleep(self._ping_interval_s - idle)
            elif not self._lock.locked():
                await self._write(PING, more=True)
            else:
                self._last = time.monotonic()  # the client is slow to read: it needs no sign of life

    async def _write(self, events: bytes, *, more: bool) -> None:
        async with self._lock:
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._start_headers()})
            await self._send({"type": "http.response.body", "body": events, "more_body": more})
        self._last = time.monotonic()

    def _start_headers(self) -> HeaderList:
        form = (b"content-type", b"text/event-stream; charset=utf-8")
        return [*self._headers(), form, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Deadline:
    """Ends the block with `UpstreamTimeout`, which says what did not happen in time."""

    def __init__(self, seconds: float, what: str) -> None:
        self._seconds = seconds
        self._what = what

    async def __aenter__(self) -> Deadline:
        """Start the clock."""
        self._timeout = asyncio.timeout(self._seconds)
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock, or say that it ran out."""
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise UpstreamTimeout(f"{self._what} within {self._seconds:g} seconds.") from None

    @property
    def passed(self) -> bool:
        """Has it run out?"""
        return self._timeout.expired()

    def replace(self, seconds: float, what: str) -> None:
        """Count `seconds` from now, for another thing."""
        self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)
        self._seconds, self._what = round(seconds, 1), what
