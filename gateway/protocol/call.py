"""One request of the data plane and its answer, on the connection that it came by.

It does for the data plane what ASGI's `scope`, `receive` and `send` do for the rest of the application, without a
message for every step: writing does not wait, and a client that leaves is a call-back instead of a task that listens.
`docs/decisions/0004` has what that bought.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from gateway.errors import BodyTooSlow, ClientLeft
from gateway.protocol.driving import Driver, Wakeup
from gateway.protocol.head import Head, too_large

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


class Connection(Protocol):
    """What a call needs of the connection it came by."""

    @property
    def writable(self) -> bool:
        """Does the client keep up with reading?"""
        ...

    @property
    def default_lines(self) -> bytes:
        """Header lines of every answer, such as the date."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes; never waits."""
        ...

    def answered(self, call: Call) -> None:
        """Take note that the answer is complete."""
        ...


class Call:
    """A request: its head, and the body as it comes.

    `keep_alive`, `response_complete` and `disconnected` are uvicorn's names for the state of an answer.
    """

    __slots__ = (
        "_connection",
        "_on_left",
        "_on_writable",
        "_parts",
        "_size",
        "_wakeup",
        "body_complete",
        "disconnected",
        "driver",
        "head",
        "keep_alive",
        "peer",
        "response_complete",
        "started",
    )
    driver: Driver  # of its handler; the connection sets it

    def __init__(self, connection: Connection, head: Head, peer: str, keep_alive: bool) -> None:
        self._connection = connection
        self.head = head
        self.peer = peer
        self.keep_alive = keep_alive
        self.body_complete = False
        self.started = False
        self.response_complete = False
        self.disconnected = False
        self._parts: list[bytes] = []
        self._size = 0
        self._wakeup: Wakeup | None = None
        self._on_left: Callable[[], object] | None = None
        self._on_writable: Callable[[], None] | None = None

    # --- the request ---

    async def body(self, limit: int, timeout_s: float) -> bytes:
        """Return the whole body; `BodyTooLarge`, `BodyTooSlow` or `ClientLeft`."""
        if not self.body_complete:
            await self._wait_for_body(limit, timeout_s)
        if self._size > limit:
            raise too_large(limit)
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait_for_body(self, limit: int, timeout_s: float) -> None:
        if self.head.headers.get(b"expect", b"").lower() == b"100-continue":
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        timer = loop.call_at(deadline, self._wake)
        try:
            while not self.body_complete and self._size <= limit:
                if self.disconnected:
                    raise ClientLeft
                if loop.time() >= deadline:
                    raise BodyTooSlow(f"The body did not arrive within {timeout_s:g} seconds: send it faster.")
                self._wakeup = Wakeup()
                await self._wakeup
        finally:
            self._wakeup = None
            timer.cancel()

    def presence(self) -> Presence:
        """Cancel the work inside a `with` when the client leaves before its answer is complete: `ClientLeft`."""
        return Presence(self)

    # --- the answer ---

    @property
    def writable(self) -> bool:
        """Does the client keep up with reading? If not, `when_writable` tells when it has caught up."""
        return self._connection.writable

    def on_left(self, call_back: Callable[[], object] | None) -> None:
        """Call back when the client leaves before its answer is complete."""
        self._on_left = call_back

    def when_writable(self, call_back: Callable[[], None] | None) -> None:
        """Call back whenever the client has caught up with reading."""
        self._on_writable = call_back

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole JSON answer, in one write. `lines` are header lines, each with its end."""
        head = self._head(status, lines)
        self._write(b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        self._complete()

    def begin(self, lines: bytes, block: bytes) -> None:
        """Begin an answer whose length is not known, with status 200, header lines and a first block."""
        self._write(b"%btransfer-encoding: chunked\r\n\r\n%b" % (self._head(200, lines), _chunk(block)))

    def write(self, block: bytes) -> None:
        """Send a further block, which must not be empty."""
        if not self.disconnected:
            self._connection.write(b"%x\r\n%b\r\n" % (len(block), block))

    def end(self, block: bytes) -> None:
        """Send the last block."""
        self._write(_chunk(block) + b"0\r\n\r\n")
        self._complete()

    def _head(self, status: int, lines: bytes) -> bytes:
        self.started = True
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b" % (_STATUS_LINES[status], self._connection.default_lines, closing, lines)

    def _write(self, data: bytes) -> None:
        if not self.disconnected:
            self._connection.write(data)

    def _complete(self) -> None:
        self.response_complete = True
        self._connection.answered(self)

    # --- for the connection ---

    def received_whole(self, body: bytes) -> None:
        """Take a body that came in one piece."""
        self._size = len(body)
        self._parts.append(body)
        self.body_complete = True

    def received_body(self, part: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(part)
        self._parts.append(part)
        self._wake()

    def received_end(self) -> None:
        """Take note that the body is complete."""
        self.body_complete = True
        self._wake()

    def left(self) -> None:
        """Take note that the client is gone."""
        self.disconnected = True
        self._wake()
        if self._on_left is not None and not self.response_complete:
            self._on_left()

    def caught_up(self) -> None:
        """Take note that the client has read what there was."""
        if self._on_writable is not None:
            self._on_writable()

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.give()


class UnframedCall(Call):
    """Of a client of HTTP/1.0, which knows no chunks: what has no length ends with its connection, never kept there."""

    __slots__ = ()

    def begin(self, lines: bytes, block: bytes) -> None:
        """Begin an answer whose length is not known."""
        self._write(b"%b\r\n%b" % (self._head(200, lines), block))

    def write(self, block: bytes) -> None:
        """Send a further block."""
        self._write(block)

    def end(self, block: bytes) -> None:
        """Send the last block."""
        self._write(block)
        self._complete()


class Presence:
    """The block of `Call.presence`: what waits inside it sees a `CancelledError` when the client leaves."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        """Begin to watch; `ClientLeft` when the client is gone already."""
        if self._call.disconnected:
            raise ClientLeft
        self._call.on_left(self._call.driver.cancel)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; turn our own cancellation into `ClientLeft`."""
        self._call.on_left(None)
        if kind is asyncio.CancelledError and self._call.disconnected:
            raise ClientLeft from error


def header_line(name: bytes, value: str) -> bytes:
    """Return one line of a head; `ValueError` for what would be more than one."""
    if not value.isprintable():
        raise ValueError(f"a header can't hold {value!r}")
    return b"%b: %b\r\n" % (name, value.encode())


def _chunk(block: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(block), block) if block else b""
