"""A load generator that costs little: a fixed number of connections, each with one request under way.

`python -m benchmarks.rig.load URL` prints one JSON object. With `--rate` it is an open loop: requests start by the
clock, whether or not earlier ones have ended, so that a slow server can't hide its queue.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import click
import uvloop

from benchmarks.rig.texts import request_body


@dataclass
class Tally:
    """What came back: seconds to the first content, or to the end where the answer is no stream."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""

    def fail(self, what: str) -> None:
        """Count a failure, and keep the first one's words."""
        self.errors += 1
        self.first_error = self.first_error or what


class Client(asyncio.Protocol):
    """One connection, for one request after the other."""

    transport: asyncio.Transport

    def __init__(self, tally: Tally, stream: bool) -> None:
        self._tally, self._stream = tally, stream
        self._received = b""
        self._sent = 0.0
        self._first = 0.0
        self.ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; the future ends with its answer."""
        self._received, self._first = b"", 0.0
        self.ended = asyncio.get_running_loop().create_future()
        self._sent = time.perf_counter()
        self.transport.write(request)
        return self.ended

    def data_received(self, data: bytes) -> None:
        """Look for the first content and the end."""
        if self._stream:
            if not self._first and b"data: " in data:
                self._first = time.perf_counter()
            self._received = (self._received + data)[-4096:] if self._first else self._received + data
            if data.endswith(b"0\r\n\r\n"):
                self._end(b"[DONE]" in self._received)
            elif not self._first:
                self._end_if_whole()
            return
        self._received += data
        self._end_if_whole()

    def _end_if_whole(self) -> None:
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        start = lower.find(b"content-length:")
        if start >= 0:
            complete = len(body) >= int(lower[start + 15 :].partition(b"\r\n")[0])
        else:
            complete = body.endswith(b"0\r\n\r\n")
        if complete:
            self._end(head.startswith(b"HTTP/1.1 200") and not self._stream)

    def _end(self, good: bool) -> None:
        if good:
            self._tally.seconds.append((self._first or time.perf_counter()) - self._sent)
        else:
            self._tally.fail(self._received[:500].decode("latin-1"))
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends under a request is an error."""
        if self.ended is not None and not self.ended.done():
            self._tally.fail(f"the connection was lost: {exc}")
            self.ended.set_result(None)


@dataclass(frozen=True)
class Load:
    """What to send where."""

    url: str
    headers: dict[str, str]
    stream: bool
    unique: bool

    async def connect(self, tally: Tally) -> Client:
        """Open a connection."""
        parts = urlsplit(self.url)
        loop = asyncio.get_running_loop()
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        _, client = await loop.create_connection(lambda: Client(tally, self.stream), host, port)
        return client

    def request(self, number: int) -> bytes:
        """Return the bytes of a request."""
        body = request_body(stream=self.stream, unique=f"{number} " if self.unique else "")
        parts = urlsplit(self.url)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: application/json"]
        lines += ["Content-Type: application/json", "User-Agent: OpenAI/Python 2.45.0", "X-Stainless-Lang: python"]
        lines += ["X-Stainless-Retry-Count: 0", "X-Stainless-Read-Timeout: 600", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def closed_loop(load: Load, connections: int, seconds: float, most: int | None) -> tuple[Tally, float]:
    """Keep every connection busy for that long, or until `most` requests were sent."""
    tally = Tally()
    request = load.request(0)
    start = time.perf_counter()
    sent = 0

    async def work() -> None:
        nonlocal sent
        client = await load.connect(tally)
        while time.perf_counter() - start < seconds and (most is None or sent < most):
            sent += 1
            await client.ask(load.request(sent) if load.unique else request)
            if client.transport.is_closing():
                client = await load.connect(tally)
        client.transport.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return tally, time.perf_counter() - start


async def open_loop(load: Load, rate: float, seconds: float) -> tuple[Tally, float]:
    """Start `rate` requests a second, on connections that are free or new."""
    tally = Tally()
    free: list[Client] = []
    request = load.request(0)

    async def one() -> None:
        client = free.pop() if free else await load.connect(tally)
        await client.ask(request)
        if not client.transport.is_closing():
            free.append(client)

    start = time.perf_counter()
    tasks: list[asyncio.Task[None]] = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return tally, time.perf_counter() - start


def summary(tally: Tally, wall_s: float) -> dict[str, Any]:
    """Return the figures of a run; times in milliseconds."""
    ordered = sorted(tally.seconds)

    def at(share: float) -> float | None:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3) if ordered else None

    return {
        "answers": len(ordered),
        "errors": tally.errors,
        "first_error": tally.first_error,
        "wall_s": round(wall_s, 3),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
    }


@click.command()
@click.argument("url")
@click.option("--header", "headers", multiple=True, help="NAME: VALUE, for every request.")
@click.option("--connections", default=32)
@click.option("--seconds", default=5.0)
@click.option("--requests", "most", type=int, default=None, help="Stop after that many.")
@click.option("--rate", type=float, default=None, help="Requests a second, in an open loop.")
@click.option("--stream", is_flag=True)
@click.option("--unique", is_flag=True, help="Make every prompt another.")
def main(
    url: str,
    headers: tuple[str, ...],
    connections: int,
    seconds: float,
    most: int | None,
    rate: float | None,
    stream: bool,
    unique: bool,
) -> None:
    """Send requests and print what came back."""
    pairs = dict(header.split(": ", 1) for header in headers)
    load = Load(url, pairs, stream, unique)
    run = open_loop(load, rate, seconds) if rate else closed_loop(load, connections, seconds, most)
    print(json.dumps(summary(*uvloop.run(run))))


if __name__ == "__main__":
    main()
