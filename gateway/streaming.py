"""The relay between client and backend: bytes pass through, nothing is held longer than it must be.

A stream's status line waits for the first content, so that a failure before it is a real status and another backend may
be tried; after some silence the stream opens with a ping instead. Nothing of another backend follows content. A chunk
goes from the backend's read to the client's write without waking anybody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.errors import GatewayError, InternalError, NoBackend, NotRecorded, UpstreamProtocol
from gateway.fleet.backends import Backend
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.pools import Pool
from gateway.fleet.upstream import Deadline, UpstreamResponse
from gateway.protocol.answers import parse_object, upstream_refusal
from gateway.protocol.call import Call
from gateway.protocol.dialects import Dialect
from gateway.protocol.exchange import Exchange
from gateway.protocol.passing import passed_on
from gateway.protocol.requests import InferenceRequest
from gateway.protocol.sse import DONE, PING, EventSplitter, comment, payload_of, without_usage

DRAIN_S = 0.5  # a backend that has said [DONE] gets this long to end its answer, so that the connection can be kept
MOST_HELD = 64 * 1024  # bytes held back before the first content

STREAM_LINES = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Settle = Callable[[Exchange, int, GatewayError | None], None]


@dataclass(slots=True)
class Deadlines:
    """Seconds: of silence until a ping, until the first token of a stream, until an answer is complete."""

    ping_interval_s: float
    first_token_s: float
    total_s: float


@dataclass(slots=True)
class Relay:
    """One request's way to the backends and back.

    `settle(exchange, status, error)` closes the books just before the last byte: it makes cost and record, and raises
    when the record can't be kept. `synced(exchange)` waits for one that must be on the disk before its answer ends.
    `lines(exchange)` gives the header lines of the answer as it begins.
    """

    client: UpstreamClient
    call: Call
    exchange: Exchange
    request: InferenceRequest
    pool: Pool
    settle: Settle
    synced: Callable[[Exchange], Awaitable[None]]
    lines: Callable[[Exchange], bytes]
    deadlines: Deadlines
    _last: bytes | None = None  # of a stream: its end, while its record is on the way to the disk

    @property
    def _dialect(self) -> Dialect:
        return self.exchange.dialect

    async def run(self) -> None:
        """Relay until the answer is complete; raises `GatewayError` only while nothing has been sent to the client."""
        if self.request.stream:
            await self._run_stream()
        else:
            await self._run_whole()

    async def _run_whole(self) -> None:
        deadline = Deadline.after(self.deadlines.total_s, "The answer was not complete")
        body = await self._first_success(self._read_whole, deadline)
        self.settle(self.exchange, 200, None)
        if self.exchange.unsynced is not None:
            await self.synced(self.exchange)
        self.call.answer(200, self.lines(self.exchange), body)

    async def _read_whole(self, response: UpstreamResponse) -> bytes:
        body = await response.read()
        self.exchange.timing.answered = time.perf_counter()
        document = parse_object(body)
        failure = self._dialect.failed(document)
        if failure is not None:
            raise failure
        self.exchange.answer.add_whole(document)
        self.exchange.whole = body
        return body

    async def _run_stream(self) -> None:
        out = ClientStream(self.call, lambda: self.lines(self.exchange), self.deadlines.ping_interval_s)
        seconds = min(self.deadlines.first_token_s, self.deadlines.total_s)
        # A caller's patience says nothing of the backend; that it began no answer in our own time does.
        deadline = Deadline.after(seconds, "The first token did not come", blames_backend=True)
        try:
            await self._first_success(lambda response: self._pass_on(response, out), deadline, out)
            if self._last is not None:
                await self.synced(self.exchange)
                out.end(self._last)
        except GatewayError as error:
            if not out.started:
                raise
            await self._fail(out, error)
        except Exception:
            if not out.started:
                raise
            logger.exception("a stream failed by our own fault", extra={"request_id": self.exchange.request_id})
            await self._fail(out, InternalError(self.exchange.request_id))
        finally:
            out.stop_pinging()

    async def _first_success(
        self,
        read: Callable[[UpstreamResponse], Awaitable[Result]],
        deadline: Deadline,
        out: ClientStream | None = None,
    ) -> Result:
        """Try backends until one answers; after content has been sent no other may follow."""
        failure: GatewayError | None = None
        for number, backend in enumerate(self.pool.attempts(self.request), 1):
            try:
                return await self._attempt(backend, number, read, deadline)
            except GatewayError as error:
                if not error.retryable or (out is not None and out.content_sent):
                    raise
                failure = error
        raise failure or NoBackend("No server of this model is up: try again shortly.")

    async def _attempt(
        self,
        backend: Backend,
        number: int,
        read: Callable[[UpstreamResponse], Awaitable[Result]],
        deadline: Deadline,
    ) -> Result:
        timing = self.exchange.timing
        self.exchange.answer = self._dialect.answer()
        # Our own id, unique among those in flight, whatever the client called its request: vLLM names its work by it.
        name = self.exchange.id if number == 1 else f"{self.exchange.id}-{number}"
        passed = passed_on(self.exchange.head, self._dialect)
        lines = b"content-type: application/json\r\nx-request-id: %b\r\n%b" % (name.encode(), passed)
        body = self.request.upstream_body(self.pool.served_name)
        with backend.carrying():
            timing.forwarded = timing.forwarded or time.perf_counter()
            client = self.pool.provider or self.client
            response = await client.post(backend.url + self._dialect.path, body, lines, deadline)
            try:
                if response.status != 200:
                    raise upstream_refusal(response.status, await response.read(), response.retry_after)
                return await read(response)
            finally:
                response.close()

    async def _pass_on(self, response: UpstreamResponse, out: ClientStream) -> None:
        """Pass one backend's events on; the terminator is ours, sent when the books are closed."""
        passage = Passage(self, response, out)
        try:
            await response.consume(passage.feed)
        except GatewayError:
            if not passage.done:
                raise
            return  # the answer is complete; only the connection is lost
        finally:
            self.call.when_writable(None)
        if not passage.done:
            raise UpstreamProtocol("The model's server ended its stream without the terminator.")

    def first_content(self, response: UpstreamResponse) -> None:
        """Note the moment of the first content; from now on the whole answer's deadline counts."""
        timing = self.exchange.timing
        timing.first_content = timing.answered = time.perf_counter()
        left = self.deadlines.total_s - timing.elapsed_ms() / 1000
        response.expire(Deadline.after(left, "The answer was not complete"))

    def finish(self, out: ClientStream, end: bytes) -> None:
        """Close the books and end the stream with `end`, the backend's word that it is complete.

        Where the record must be on the disk first, `_run_stream` waits for that and ends it.
        """
        try:
            self.settle(self.exchange, 200, None)
        except GatewayError as error:
            out.end(self._failure(error))
            return
        last = comment(f"x-spiritsafe-cost: {self.exchange.cost}") + end
        if self.exchange.unsynced is None:
            out.end(last)
        else:
            self._last = last

    async def _fail(self, out: ClientStream, error: GatewayError) -> None:
        """End a stream that has begun as its dialect tells of failures."""
        with suppress(GatewayError):  # the record's own failure is logged and counted; the client hears of this one
            self.settle(self.exchange, 200, error)
            if not isinstance(error, NotRecorded):
                await self.synced(self.exchange)
        out.end(self._failure(error))

    def _failure(self, error: GatewayError) -> bytes:
        return self._dialect.errors.events(error, self.exchange.request_id, self.exchange.answer)


class Passage:
    """One backend's events on their way to the client: what it gets is byte for byte, but for usage it did not ask for.

    `feed` takes each read of the backend's; it raises what the events say went wrong, after what came before them.
    """

    __slots__ = (
        "_answer",
        "_dialect",
        "_end",
        "_held",
        "_hides_usage",
        "_out",
        "_relay",
        "_response",
        "_splitter",
        "_wants_usage",
        "done",
    )

    def __init__(self, relay: Relay, response: UpstreamResponse, out: ClientStream) -> None:
        self._relay = relay
        self._response = response
        self._out = out
        self._answer = relay.exchange.answer
        self._dialect = relay.exchange.dialect
        self._wants_usage = relay.request.wants_usage  # in a chunk at the end
        self._hides_usage = self._dialect.hides_usage and not relay.request.wants_continuous_usage
        self._splitter = EventSplitter()
        self._held: list[bytes] = []
        self._end = DONE  # the word that ends the stream
        self.done = False

    def feed(self, block: bytes) -> None:
        """Pass on the events that a read completes."""
        done = self.done
        if done:
            return
        content = False
        failure: GatewayError | None = None
        for event in self._splitter.feed(block):
            shown = self._answer.pass_word(event) if self._hides_usage else None
            if shown is not None:
                content = True
                self._held += (shown, b"\n\n")
                continue
            try:
                content = self._take(event) or content
            except GatewayError as error:
                failure = error
                break
            if self.done:
                break
        self._pass(content)
        if failure is not None:
            raise failure
        if self.done:
            self._response.expire(Deadline.after(DRAIN_S, "The model's server did not end its answer"))
            self._relay.finish(self._out, self._end)

    def _take(self, event: bytes) -> bool:
        """Read an event and hold what the client gets of it; True for content."""
        payload, terminals = payload_of(event), self._dialect.terminals
        if payload == b"[DONE]" and not terminals:
            self.done = True
            return False
        if not payload or payload == b"[DONE]":
            return False  # a comment, as pings to the client are ours; or a word that this dialect does not know
        chunk = parse_object(payload)
        failure = self._dialect.failed(chunk)
        if failure is not None:
            raise failure
        content = self._answer.add_chunk(chunk)
        if terminals and str(chunk.get("type")) in terminals:
            self.done = True
            self._end = event + b"\n\n"
        else:
            self._show(event, payload, chunk)
        return content

    def _pass(self, content: bool) -> None:
        out, held = self._out, self._held
        if not out.content_sent:
            if content:
                self._relay.first_content(self._response)
            elif not self.done and sum(map(len, held)) <= MOST_HELD:
                return
        if held:
            out.content(b"".join(held))
            self._held = []
            if not self._relay.call.writable:
                # The client is slow to read: so is then what it reads.
                self._response.pause()
                self._relay.call.when_writable(self._response.resume)

    def _show(self, event: bytes, payload: bytes, chunk: dict[str, Any]) -> None:
        if not self._hides_usage or not chunk.get("usage"):
            self._held += (event, b"\n\n")
        elif chunk.get("choices"):
            self._answer.learn(event)
            self._held += (b"data: ", without_usage(payload, chunk), b"\n\n")
        elif self._wants_usage:
            self._held += (event, b"\n\n")


class ClientStream:
    """The client's side of a stream: the status line at the first content or ping, whole events, the end."""

    __slots__ = ("_call", "_interval_s", "_last", "_lines", "_loop", "_timer", "content_sent", "started")

    def __init__(self, call: Call, lines: Callable[[], bytes], ping_interval_s: float) -> None:
        self._call = call
        self._lines = lines
        self._interval_s = ping_interval_s
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(ping_interval_s, self._ping)
        self.started = False
        self.content_sent = False

    def content(self, events: bytes) -> None:
        """Send events."""
        if self.content_sent:
            self._last = self._loop.time()
            self._call.write(events)
        else:
            self.content_sent = True
            self._write(events)

    def end(self, events: bytes) -> None:
        """Send the last events."""
        self.stop_pinging()
        if not self.started:
            self._write(b"")
        self._call.end(events)

    def stop_pinging(self) -> None:
        """Send no sign of life any more."""
        self._timer.cancel()

    def _write(self, events: bytes) -> None:
        self._last = self._loop.time()
        if self.started:
            self._call.write(events)
        else:
            self.started = True
            self._call.begin(self._lines() + STREAM_LINES, events)

    def _ping(self) -> None:
        """Send a comment when nothing was sent for the interval; a client that is slow to read needs none."""
        due = self._last + self._interval_s
        if due <= self._loop.time():
            if self._call.writable:
                self._write(PING)
            due = self._loop.time() + self._interval_s
        self._timer = self._loop.call_at(due, self._ping)
