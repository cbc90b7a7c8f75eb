"""The load generator's side of a connection: sends requests, notes when the first content came and whether all did."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from benchmarks.rig.texts import request_body

# Of a chunk with text; the first chunk of a stream says only who speaks.
CONTENT = re.compile(rb'"content"\s*:\s*"[^"]')
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
END = b"0\r\n\r\n"


class Answer(NamedTuple):
    """A good answer: when it was asked for, seconds to its first content (to its end, if no stream), its chunks."""

    asked: float
    seconds: float
    chunks: int


@dataclass
class Tally:
    """What came back, and how much was under way at once."""

    answers: list[Answer] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""
    connections: int = 0
    under_way: int = 0
    most_under_way: int = 0
    start: float = field(default_factory=time.perf_counter)
    start_cpu: float = field(default_factory=time.process_time)

    def begin(self) -> None:
        """A request goes out."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

    def succeed(self, answer: Answer) -> None:
        """Its answer is complete."""
        self.under_way -= 1
        self.answers.append(answer)

    def fail(self, what: str) -> None:
        """It failed; the first one's words are kept."""
        self.under_way -= 1
        self.errors += 1
        self.first_error = self.first_error or what


class Client(asyncio.Protocol):
    """One connection, for one request after the other."""

    transport: asyncio.Transport

    def __init__(self, tally: Tally, stream: bool) -> None:
        self._tally, self._stream = tally, stream
        self._parts: list[bytes] = []
        self._sent = self._first = 0.0
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self._tally.connections += 1

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; the future ends with its answer."""
        self._parts, self._first = [], 0.0
        self._ended = asyncio.get_running_loop().create_future()
        self._tally.begin()
        self._sent = time.perf_counter()
        self.transport.write(request)
        return self._ended

    def give_up(self, what: str) -> None:
        """Count a request that is still under way as failed, and leave."""
        self._end(what)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Look for the first content and the end."""
        self._parts.append(data)
        if not self._stream:
            self._end_if_whole()
        elif self._first:
            self._end_if_streamed(data)
        elif CONTENT.search(b"".join(self._parts)):
            self._first = time.perf_counter()
            self._end_if_streamed(data)
        else:
            self._end_if_whole()

    def _end_if_streamed(self, data: bytes) -> None:
        tail = data if len(data) >= len(END) else b"".join(self._parts[-len(END) :])
        if tail.endswith(END):
            events = dechunked(b"".join(self._parts).partition(b"\r\n\r\n")[2])
            if b"data: [DONE]" in events[-64:]:
                self._end(None, len(CONTENT.findall(events)))
            else:
                self._end(f"a stream without its end: {events[-500:]!r}")

    def _end_if_whole(self) -> None:
        received = b"".join(self._parts)
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = LENGTH.search(head)
        if len(body) >= int(length[1]) if length else body.endswith(END):
            good = head.startswith(b"HTTP/1.1 200") and not self._stream
            self._end(None if good else received[:500].decode("latin-1"))

    def _end(self, failure: str | None, chunks: int = 0) -> None:
        if self._ended is None or self._ended.done():
            return
        if failure is None:
            self._tally.succeed(Answer(self._sent, (self._first or time.perf_counter()) - self._sent, chunks))
        else:
            self._tally.fail(failure)
        self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends under a request is an error."""
        self._end(f"the connection was lost: {exc}")


def dechunked(body: bytes) -> bytes:
    """Return a chunked body's content."""
    parts, at = [], 0
    while (size_ends := body.find(b"\r\n", at)) >= 0 and (size := int(body[at:size_ends].partition(b";")[0], 16)):
        parts.append(body[size_ends + 2 : size_ends + 2 + size])
        at = size_ends + 2 + size + 2
    return b"".join(parts)


@dataclass(frozen=True)
class Load:
    """What to send where. `keys` take turns; `tokens` is how many exactly a real model shall generate."""

    url: str
    headers: dict[str, str]
    stream: bool = False
    unique: bool = False
    keys: tuple[str, ...] = ()
    tokens: int | None = None

    async def connect(self, tally: Tally) -> Client:
        """Open a connection."""
        parts = urlsplit(self.url)
        loop = asyncio.get_running_loop()
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        _, client = await loop.create_connection(lambda: Client(tally, self.stream), host, port)
        return client

    @property
    def varies(self) -> bool:
        """Is every request another?"""
        return self.unique or bool(self.keys)

    def request(self, number: int) -> bytes:
        """Return the bytes of a request."""
        body = request_body(stream=self.stream, unique=f"{number} " if self.unique else "", tokens=self.tokens)
        parts = urlsplit(self.url)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: application/json"]
        lines += ["Content-Type: application/json", "User-Agent: OpenAI/Python 2.45.0", "X-Stainless-Lang: python"]
        lines += ["X-Stainless-Retry-Count: 0", "X-Stainless-Read-Timeout: 600", f"Content-Length: {len(body)}"]
        headers = self.headers
        if self.keys:
            headers = headers | {"Authorization": f"Bearer {self.keys[number % len(self.keys)]}"}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
