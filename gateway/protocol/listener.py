"""The listening socket that workers share, and the HTTP protocol on its connections.

Requests of the data plane become a `Call` and go straight to their handler; everything else is uvicorn's and goes to
the ASGI application. Uvicorn bounds idle connections only: here slow headers, slow readers and the unwanted rest of a
body are bounded too.
"""

from __future__ import annotations

import asyncio
import logging
import re
import select
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.errors import BadRequest, InternalError
from gateway.ledger.identifiers import uuid7
from gateway.protocol.call import Call, UnframedCall
from gateway.protocol.driving import Driver
from gateway.protocol.head import Head

KEEP_ALIVE_S = 75
HEADER_TIMEOUT_S = 30.0
READER_TIMEOUT_S = 60.0  # for a client that takes nothing of its answer
LOST_S = 60  # for a client whose network is gone, so that not even its leaving is heard of
LEFTOVER_TIMEOUT_S = 30.0  # for the rest of a body that was answered before its end
LONGEST_HEAD = 64 * 1024  # bytes of what is no body, and a read more
CHECK_S = 1.0  # how often a connection looks at its deadlines: a timer for each request would cost more than the check
BACKLOG = 2048
LINGER_S = 0.3  # at the end: for a client that was promised that its connection is kept, and is sending already

logger = logging.getLogger(__name__)

Handler = Callable[[Call], Coroutine[Any, Any, None]]
Finder = Callable[[bytes, bytes], Handler | None]


def reserve(host: str, port: int) -> socket.socket:
    """Bind an address that other processes may bind too (SO_REUSEPORT), without listening; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket that other processes may open too; its connections break when their client is lost."""
    listener = reserve(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # Linux hands these on to what is accepted
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, LOST_S // 4)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, LOST_S // 4)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_S * 1000)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


class PartingState(ServerState):
    """What uvicorn's connections share, and whether the server is about to stop."""

    parting = False
    accepted = 0  # connections, ever


class _Known:
    """A head that has been parsed, but for its length: an SDK sends the same one with each request of a connection.

    What is equal, byte for byte, to a head that the parser took means what that one meant.
    """

    __slots__ = ("_after", "_before", "handler", "head")

    def __init__(self, before: bytes, after: bytes, head: Head, handler: Handler) -> None:
        self._before, self._after = before, after  # the bytes around the length
        self.head, self.handler = head, handler

    def body_of(self, data: bytes) -> bytes | None:
        """Return the body of a request that is whole in one read and has this head; None: the parser has to see it."""
        if not data.startswith(self._before):
            return None
        start = len(self._before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        if len(body) != int(length):
            return None
        self.head.headers[b"content-length"] = length
        return body


_MOST_DIGITS = 9
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]{1,%d})\r\n" % _MOST_DIGITS, re.IGNORECASE)
_UNKNOWABLE = (b"transfer-encoding", b"expect", b"upgrade")
_LONGEST_KNOWN = 4096


def _known(data: bytes, call: Call, handler: Handler) -> _Known | None:
    """Return the head that a read began with as a known one; None where it says more than its length of the body."""
    head = call.head
    end = data.find(b"\r\n\r\n") + 4
    if not 4 < end <= _LONGEST_KNOWN or not call.keep_alive or any(name in head.headers for name in _UNKNOWABLE):
        return None
    lengths = list(_LENGTH.finditer(data, 0, end))
    # As many lines as headers, and the request's and an empty one: so the head ends where it seems to.
    whole = data.count(b"\n", 0, end) == len(head.names) + 2
    if not whole or len(lengths) != 1 or head.names.count(b"content-length") != 1:
        return None
    start, stop = lengths[0].span(1)
    return _Known(data[:start], data[stop:end], head, handler)


_LONGEST_NAME = 64  # of a header whose lower-case form is remembered


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> bytes:
    return name.lower()


class GatewayProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with a short way for the data plane: `find(method, path)` gives the handler of a request."""

    reader_timeout_s = READER_TIMEOUT_S
    header_timeout_s = HEADER_TIMEOUT_S
    _rendered: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")  # for all connections

    def __init__(self, find: Finder, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._find = find
        # Requests that came before the answer to the one before them: with their handler, or their ASGI application.
        self._queue = cast("deque[tuple[object, Any]]", self.pipeline)
        self._driven = cast("set[Driver]", self.tasks)  # uvicorn waits for them at the end, and cancels what is left
        self._current: Call | None = None  # whose answer is under way; `cycle` is the request that is being read
        self._waiting: tuple[Call, Handler] | None = None  # starts when the read that brought its head is parsed
        self._known: _Known | None = None  # the head of the request before
        self._in_head = False
        self._beside = 0  # bytes read of a head, or of what follows a body, since there was something of a body
        self._peer = ""
        self._due: float | None = None  # when to close, for want of a request, a head or the rest of a body
        self._reader_due: float | None = None  # when to cut off a client that does not read
        self._check: asyncio.TimerHandle | None = None

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request."""
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        if isinstance(self.server_state, PartingState):
            self.server_state.accepted += 1
        self._allow(self.header_timeout_s)
        self._check = self.loop.call_later(CHECK_S, self._look_at_the_clock)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests under way that nobody is there any more."""
        if self._check is not None:
            self._check.cancel()
        if self._reading() is not None:
            self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)
        self._queue.clear()
        if self._current is not None:
            self._current.left()
        # They know this connection: what refers to itself is freed late.
        self._current = self._known = None
        self.cycle = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse one read, then start the request it brought."""
        rests = self._rests()
        body = self._known.body_of(data) if rests and self._known is not None else None
        if body is not None and self._known is not None:
            self._due = None
            call, handler = Call(self, self._known.head, self._peer, not self._parting), self._known.handler
            call.received_whole(body)
            self.cycle = call  # type: ignore[assignment]
        else:
            self._beside += len(data)
            super().data_received(data)
            if self._waiting is None:
                if self._beside > LONGEST_HEAD:
                    self._refuse_unread(f"The request's headers are longer than {LONGEST_HEAD} bytes: shorten them.")
                return
            (call, handler), self._waiting = self._waiting, None
            self._known = _known(data, call, handler) if rests else None
        self._start(call, handler)

    def _rests(self) -> bool:
        """Is nothing under way, so that the next byte begins a request?"""
        before = self._reading()
        over = before is not None and before.response_complete and before.body_complete
        return (over or self.cycle is None) and not self._in_head and not self.transport.is_closing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read."""
        self._refuse_unread("This is no valid HTTP/1.1 request: see what a proxy on the way makes of it.")

    def _refuse_unread(self, text: str) -> None:
        """End a connection that sent what can't be read: after the answer under way, else with a refusal."""
        over = self.cycle is None or self.cycle.response_complete
        if not over and self._has_whole_body():
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        call, self._waiting = self._reading(), None
        # The refusal of a body that broke would stand in the middle of an answer to it, or before one to another.
        if over or (call is not None and not call.started and not self._queue):
            refusal = Call(self, Head(b"", []), self._peer, keep_alive=False)
            refusal.answer(BadRequest.status, b"x-request-id: %b\r\n" % uuid7().encode(), BadRequest(text).encoded())
        self.transport.close()

    def pause_writing(self) -> None:
        """Start the clock for a client that does not read; closing would wait for it, so it will be cut off."""
        super().pause_writing()
        self._reader_due = self.loop.time() + self.reader_timeout_s

    def resume_writing(self) -> None:
        """Stop the clock: it reads."""
        self._reader_due = None
        super().resume_writing()
        if self._current is not None:
            self._current.caught_up()

    def shutdown(self) -> None:
        """Part: the answer under way says so; a client that was promised another request has a moment to send it."""
        call = self._reading()
        if call is None and self.cycle is not None:
            super().shutdown()
        elif call is None or call.response_complete:
            self._linger()
        elif not call.started:
            call.keep_alive = False

    @property
    def _parting(self) -> bool:
        return isinstance(self.server_state, PartingState) and self.server_state.parting

    def _linger(self) -> None:
        self.loop.call_later(LINGER_S, self._leave, 2)

    def _leave(self, turns: int) -> None:
        """Close, unless a request came; what came while the loop was held up is seen in the turn after next only."""
        if self.transport.is_closing() or self._in_head or not (self.cycle is None or self.cycle.response_complete):
            return
        if turns or _has_unread(self.transport):
            self.loop.call_soon(self._leave, max(0, turns - 1))
        else:
            _send_no_more(self.transport)  # at once: until the transport is closed, turns later, requests may come
            self.transport.close()

    # --- the parser's side ---

    def on_message_begin(self) -> None:
        """Start the clock for a head."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._beside = True, 0
        self._allow(self.header_timeout_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((_lower(name) if len(name) <= _LONGEST_NAME else name.lower(), value))

    def on_headers_complete(self) -> None:
        """Make a call of a request for the data plane; leave any other to uvicorn."""
        self._in_head = False
        self._due = None  # from here on the body's own time-out counts
        path = self.url.partition(b"?")[0]
        handler = self._find(self.parser.get_method(), path)
        if handler is None:
            url, headers = self.url, self.headers
            super().on_message_begin()  # makes the scope, which no call needs
            self.url = url
            self.headers += headers
            self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
            super().on_headers_complete()
            return
        old = self.parser.get_http_version() == "1.0"
        keep_alive = not old and self.parser.should_keep_alive() and not self._parting
        call = (UnframedCall if old else Call)(self, Head(path, self.headers), self._peer, keep_alive)
        before = self.cycle
        self.cycle = call  # type: ignore[assignment]
        if before is None or before.response_complete:
            self._waiting = call, handler
        else:
            self.flow.pause_reading()
            self._queue.appendleft((call, handler))

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body that somebody waits for."""
        self._beside = 0
        call = self._reading()
        if call is None:
            super().on_body(body)
        elif not call.response_complete:
            call.received_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a body."""
        call = self._reading()
        if call is None:
            super().on_message_complete()
            return
        call.received_end()
        if call.response_complete:
            self._allow(KEEP_ALIVE_S)

    # --- the call's side ---

    @property
    def writable(self) -> bool:
        """Does the client keep up with reading?"""
        return not self.flow.write_paused

    @property
    def default_lines(self) -> bytes:
        """Uvicorn's headers: the date, which it makes anew every second."""
        headers, lines = self._rendered
        if headers is not self.server_state.default_headers:
            headers = self.server_state.default_headers
            lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
            GatewayProtocol._rendered = headers, lines
        return lines

    def write(self, data: bytes) -> None:
        """Send bytes; never waits."""
        self.transport.write(data)

    def answered(self, call: Call) -> None:
        """Close the connection, or make it ready for the next request."""
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Start the next request where it has come already, else the clock for it or for the rest of the body."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._queue:
            cycle, handler = self._queue.pop()
            if isinstance(cycle, Call):
                self.loop.call_soon(self._start_next, cycle, handler)  # not from here: there may be any number of them
            else:
                self._start_asgi_task(cast(RequestResponseCycle, cycle), handler)
        else:
            self._allow(KEEP_ALIVE_S if self._has_whole_body() else LEFTOVER_TIMEOUT_S)
            if self._parting:
                self._linger()

    def _reading(self) -> Call | None:
        """Return the request that is being read, where it is the data plane's."""
        cycle: object = self.cycle
        return cycle if isinstance(cycle, Call) else None

    def _has_whole_body(self) -> bool:
        call = self._reading()
        return not self.cycle.more_body if call is None else call.body_complete

    def _start_next(self, call: Call, handler: Handler) -> None:
        if not self.transport.is_closing():  # its client may have left meanwhile
            self._start(call, handler)

    def _start(self, call: Call, handler: Handler) -> None:
        self._current = call
        driver = call.driver = Driver(handler(call), self._ended)
        self._driven.add(driver)
        driver.start()

    def _ended(self, driver: Driver, error: BaseException | None) -> None:
        """Leave no client without an answer: a handler that failed, or was cancelled at the end, did not give one."""
        self._driven.discard(driver)
        if isinstance(error, Exception):
            logger.error("a handler failed", exc_info=error)
        call = self._current
        if call is None or call.driver is not driver:
            return  # it has been answered, and the next request is under way
        if call.response_complete or self.transport.is_closing():
            return
        if call.started:
            self.transport.close()
        else:
            failure = InternalError(uuid7())
            call.keep_alive = False
            call.answer(failure.status, b"", failure.encoded())

    # --- the clock ---

    def _allow(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds

    def _look_at_the_clock(self) -> None:
        now = self.loop.time()
        if self._reader_due is not None and now >= self._reader_due:
            self.transport.abort()
        elif self._due is not None and now >= self._due:
            self.transport.close()
        if not self.transport.is_closing():
            self._check = self.loop.call_later(CHECK_S, self._look_at_the_clock)


def _has_unread(transport: asyncio.Transport) -> bool:
    """Has the kernel bytes of a connection that the loop has not read? Closing now would reset them."""
    asked = select.poll()
    asked.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(asked.poll(0))


def _send_no_more(transport: asyncio.Transport) -> None:
    """Tell the other side that nothing more comes."""
    known = socket.socket(fileno=transport.get_extra_info("socket").fileno())
    try:
        known.shutdown(socket.SHUT_WR)
    except OSError:
        return  # it is gone
    finally:
        known.detach()
