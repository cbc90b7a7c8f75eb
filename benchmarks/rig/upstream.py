"""A stand-in for vLLM that costs little: every answer is the same bytes, at a pace.

The real one would take all of both cores; what is measured here is what stands in front of it.
"""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple, cast

import click
import httptools
import uvloop

from benchmarks.rig.texts import ANSWER, CHUNKS, END_OF_STREAM, MODELS, STREAM_HEAD

HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Pace(NamedTuple):
    """Seconds: until a stream's first chunk, between chunks, until an answer that is not streamed."""

    first_s: float
    gap_s: float
    whole_s: float


class Upstream(asyncio.Protocol):
    """One connection: reads requests, answers each by what it asks for."""

    transport: asyncio.Transport

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = b"", b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop an answer whose reader is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        """Take a part of its body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer it."""
        if not self._body:
            self.transport.write(HEAD % len(MODELS) + MODELS)
        elif b'"stream":true' in self._body or b'"stream": true' in self._body:
            self._timer = self._loop.call_later(self._pace.first_s, self._stream, 0)
        elif self._pace.whole_s:
            self._timer = self._loop.call_later(self._pace.whole_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self.transport.write(HEAD % len(ANSWER) + ANSWER)

    def _stream(self, number: int) -> None:
        if self.transport.is_closing():
            return
        if number < len(CHUNKS):
            self.transport.write((STREAM_HEAD if number == 0 else b"") + CHUNKS[number])
            # vLLM says who speaks when it has the first token, and that token with it.
            self._timer = self._loop.call_later(self._pace.gap_s if number else 0.0, self._stream, number + 1)
        else:
            self.transport.write(END_OF_STREAM)


async def serve(port: int, pace: Pace) -> None:
    """Serve until killed; prints where."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(pace), "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


@click.command()
@click.option("--port", default=0, help="Where to listen; 0 takes a free port.")
@click.option("--first-ms", default=0.0, help="Milliseconds until a stream's first chunk.")
@click.option("--gap-ms", default=0.0, help="Milliseconds between chunks.")
@click.option("--whole-ms", default=0.0, help="Milliseconds until an answer that is not streamed.")
def main(port: int, first_ms: float, gap_ms: float, whole_ms: float) -> None:
    """Run the stand-in."""
    uvloop.run(serve(port, Pace(first_ms / 1000, gap_ms / 1000, whole_ms / 1000)))


if __name__ == "__main__":
    main()
