"""The listening socket that workers share, and uvicorn's protocol with a bound on slow headers."""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_S = 75
HEADER_TIMEOUT_S = 30.0
READER_TIMEOUT_S = 60.0  # for a client that takes nothing of its answer
LEFTOVER_TIMEOUT_S = 30.0  # for the rest of a body that was answered before its end
BACKLOG = 2048


def reserve(host: str, port: int) -> socket.socket:
    """Bind an address that other processes may bind too (SO_REUSEPORT), without listening; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket that other processes may open too."""
    listener = reserve(host, port)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose client is too slow: with its headers, the unwanted rest of its body, or its reading.

    Uvicorn bounds idle connections only. A body that is still being read has the data plane's own time-out.
    """

    reader_timeout_s = READER_TIMEOUT_S
    _due: asyncio.TimerHandle | None = None
    _read_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._allow(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_waiting()
        self._stop_reader_clock()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the clock for a further request."""
        super().on_message_begin()
        self._allow(HEADER_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """Stop the clock: from here on the body's own time-out counts."""
        self._stop_waiting()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Start the clock for the rest of a body that nobody waits for."""
        super().on_response_complete()
        if self.cycle.more_body:
            self._allow(LEFTOVER_TIMEOUT_S)

    def on_message_complete(self) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the clock for a client that does not read; closing would wait for it, so it is cut off."""
        super().pause_writing()
        self._read_due = self.loop.call_later(self.reader_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the clock: it reads."""
        self._stop_reader_clock()
        super().resume_writing()

    def _stop_reader_clock(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def _allow(self, seconds: float) -> None:
        if self._due is None:
            self._due = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
