"""The ASGI side of one request: headers, body, answers, and the client's presence."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from gateway.errors import BodyTooLarge, BodyTooSlow, ClientLeft, UnsupportedMediaType

HeaderList = list[tuple[bytes, bytes]]


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by lower-case name; of a repeated one the last."""
    return dict(scope["headers"])


def check_form(headers: dict[bytes, bytes], limit: int) -> None:
    """Refuse by the headers alone what can't be JSON or is too long: `UnsupportedMediaType`, `BodyTooLarge`."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaType("The body must be JSON: send it with Content-Type: application/json.")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMediaType("The body must not be compressed: leave out Content-Encoding.")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)


async def read_body(receive: Receive, limit: int, timeout_s: float) -> bytes:
    """Read the whole body; `BodyTooLarge`, `BodyTooSlow` or `ClientLeft`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_body(receive, limit)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {timeout_s:g} seconds: send it faster.") from None


async def _read_body(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes: shorten the request.")


async def send_answer(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    """Send a whole JSON answer; its length is added to the headers."""
    length = (b"content-length", b"%d" % len(body))
    form = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [*headers, form, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class ClientPresence:
    """Cancels the work inside the block when the client leaves, and raises `ClientLeft` at its end.

    The same way `asyncio.timeout` cancels: the block sees a `CancelledError` wherever it waits, be it for the backend
    or for the client's buffer. Answers go through `send`, so that the end of an answer is not taken for a departure.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._answered = False
        self._left = False

    async def __aenter__(self) -> ClientPresence:
        """Start watching; the body must have been read."""
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; turn our own cancellation into `ClientLeft`."""
        self._watcher.cancel()
        ours = self._left and self._task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientLeft from error

    async def send(self, message: Message) -> None:
        """Send an ASGI message; after the last one the client may go."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._answered:
            self._left = True
            self._task.cancel()
