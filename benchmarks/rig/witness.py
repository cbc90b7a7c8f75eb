"""A client that remembers of every request, by its own `x-request-id`, how it ended.

It never retries. A kept connection is used again as httpx does it below the SDKs: while it was idle for less than five
seconds, and if nothing has come on it meanwhile, such as its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httptools

from benchmarks.rig.reconciliation import Asked, Ending, Sent
from benchmarks.rig.texts import ANSWER, MODEL, WORDS, request_body

HOST = "127.0.0.1"
KEEP_ALIVE_S = 5.0
SILENT_S = 90.0  # more than the house's own deadlines for an answer
UNKNOWN_SHARE = 0.02
FIRST_STEPS, STEP_S, MEASURED_S = 32, 8.0, 5.0
WORTH = 1.25  # twice the connections must bring that much more, or the most is found


class Lost(Exception):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """One connection; it carries one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._ended: asyncio.Future[None] | None = None
        self.headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self.port = 0
        self.opening = self.opened = self.idle_since = 0.0
        self.open = True

    @property
    def body(self) -> bytes:
        """What came of the answer's body."""
        return b"".join(self._parts)

    async def ask(self, request: bytes) -> int:
        """Send a request and wait for the end of its answer; returns the status, or raises `Lost`."""
        self.headers, self._parts = {}, []
        self._ended = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._ended
        return int(self._parser.get_status_code())

    def is_quiet(self) -> bool:
        """Whether it is open, and nothing waits to be read: what comes unasked is the server's goodbye."""
        if not self.open:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the port, by which the server's end is found."""
        self.transport = cast(asyncio.Transport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(Lost(f"not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.open = False
        self._end(Lost(str(exc or "closed")))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._parser.should_keep_alive():
            self.open = False
            self.transport.close()
        self._end(None)

    def _end(self, error: Lost | None) -> None:
        if self._ended is not None and not self._ended.done():
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)


class Witness:
    """Sends requests to one house. `sent` has all of them; `seed` decides which asks for what."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.sent: list[Sent] = []
        self._port, self._random = port, random.Random(seed)
        self._free: list[Connection] = []
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}:{port}\r\nauthorization: Bearer {key}\r\n"
            "accept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.45.0\r\n"
        )

    async def ask(self) -> Sent:
        """Send the next request, and note how it ends."""
        request = self._next()
        self.sent.append(request)
        try:
            async with asyncio.timeout(SILENT_S), self._connection() as connection:
                request.port, request.opening, request.opened = connection.port, connection.opening, connection.opened
                status = await connection.ask(self._bytes(request))
                note(request, status, connection.headers, connection.body)
        except TimeoutError:
            request.detail = f"nothing for {SILENT_S:.0f} s"
        except (Lost, OSError) as error:
            if not request.port:
                request.opening, request.opened = request.began, time.time()
            kept = "a new" if request.opened >= request.began else "a kept"
            request.ending = "reset"
            request.detail = f"{error}, on {kept} connection, {time.time() - request.began:.2f} s after it was sent"
        request.ended = time.time()
        return request

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Start `rate` requests a second by the clock, whether or not earlier ones have ended; wait for the last."""
        start = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
                tasks.create_task(self.ask())

    async def most_per_second(self) -> float:
        """Return how many requests a second the house carries: ever more connections, until they bring no more."""
        best, connections = 0.0, FIRST_STEPS
        while True:
            found = await self._closed_loop(connections)
            print(f"calibration: {connections} connections, {found:.0f} requests/s", flush=True)
            if found < best * WORTH:
                return max(best, found)
            best, connections = found, connections * 2

    async def _closed_loop(self, connections: int) -> float:
        end = time.time() + STEP_S
        before = len(self.sent)

        async def work() -> None:
            while time.time() < end:
                await self.ask()

        await asyncio.gather(*(work() for _ in range(connections)))
        return sum(end - MEASURED_S <= request.ended < end for request in self.sent[before:]) / MEASURED_S

    def _next(self) -> Sent:
        drawn = self._random.random()
        asked: Asked = "unknown" if drawn < UNKNOWN_SHARE else "stream" if self._random.random() < 0.5 else "whole"
        return Sent(f"endurance-{len(self.sent) + 1}", asked, time.time())

    def _bytes(self, request: Sent) -> bytes:
        model = "nobody" if request.asked == "unknown" else MODEL
        body = request_body(stream=request.asked == "stream", unique=f"{request.id} ", model=model)
        head = f"{self._head}x-request-id: {request.id}\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a young kept connection, or a new one; whoever fails with it takes it along."""
        connection = self._kept() or await self._connect()
        try:
            yield connection
        except BaseException:
            connection.transport.abort()
            raise
        connection.idle_since = time.time()
        self._free.append(connection)

    def _kept(self) -> Connection | None:
        now = time.time()
        while self._free:
            connection = self._free.pop()
            if now - connection.idle_since < KEEP_ALIVE_S and connection.is_quiet():
                return connection
            connection.transport.close()
        return None

    async def _connect(self) -> Connection:
        opening = time.time()
        _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, self._port)
        connection.opening, connection.opened = opening, time.time()
        return connection


def note(request: Sent, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Note how an answer ended, and what about it is against the contract."""
    request.status = status
    try:
        request.ending, request.code = _ending(request, headers, body)
        if headers.get(b"x-request-id") != request.id.encode():
            raise ValueError(f"x-request-id is {headers.get(b'x-request-id')!r}")
    except (ValueError, KeyError, TypeError) as error:
        request.ending, request.detail = "broken", f"{error!r} in {body[-300:]!r}"


def _ending(request: Sent, headers: dict[bytes, bytes], body: bytes) -> tuple[Ending, str]:
    if request.status != 200:
        if request.status in (429, 503) and not 1 <= int(headers[b"retry-after"]) <= 60:
            raise ValueError(f"retry-after is {headers[b'retry-after']!r}")
        return "refused", _code(json.loads(body))
    if request.asked != "stream":
        if body != ANSWER:
            raise ValueError("another answer than the server's")
        return "whole", ""
    events = body.split(b"\n\n")
    if events[-2:] != [b"data: [DONE]", b""]:
        raise ValueError("a stream without its end")
    if events[-3].startswith(b'data: {"error"'):
        return "failed", _code(json.loads(events[-3].removeprefix(b"data: ")))
    words = [b'"content":" word%d"' % number for number in range(1, WORDS + 1)]
    chunks = [event for event in events if b'"content":" word' in event]
    if len(chunks) != WORDS or not all(word in chunk for word, chunk in zip(words, chunks, strict=True)):
        raise ValueError(f"{len(chunks)} of {WORDS} words, or in another order")
    return "stream", ""


def _code(document: dict[str, Any]) -> str:
    """Return the code of an error in OpenAI's form; `ValueError` when it has another."""
    error = document["error"]
    texts = all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code"))
    if set(document) != {"error"} or set(error) != {"message", "type", "param", "code"} or not texts:
        raise ValueError("an error in another form")
    return str(error["code"])
