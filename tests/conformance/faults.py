"""Every fault, as a script for the scripted upstream; each says whether the client must still get its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.endpoints import (
    LAST,
    WORDS,
    embeddings_answer,
    messages_answer,
    messages_stream,
    responses_answer,
    responses_stream,
)
from tests.fakes import (
    Drop,
    HalfClose,
    Hang,
    Script,
    Step,
    Wait,
    chat_answer,
    chat_stream,
    error_response,
    framed,
    response,
    text_answer,
    text_stream,
)

Mode = Literal["whole", "stream"]
TEXT = "".join(WORDS)
GIANT = 2_000_000  # characters of one event's text
ENDLESS = 17 * 1024 * 1024  # bytes without the end of an event: more than is taken
PING_S, FIRST_TOKEN_S, TOTAL_S = 2.5, 6.0, 8.0  # the gateway's patience: until a ping, the first token, the end
LONG_WAIT_S = 3.5  # longer than until a ping, shorter than any deadline
SOON_S = 0.1  # tried twice, it must stay far below the time until a ping
SETTLE_S = 1.0  # what came before a failure must have been read by then, also on a busy machine

_STREAMS: dict[str, Callable[[str, Any], Any]] = {
    "chat.completions": chat_stream,
    "completions": text_stream,
    "responses": responses_stream,
    "messages": messages_stream,
}
_ANSWERS: dict[str, Callable[[str, str], bytes]] = {
    "chat.completions": chat_answer,
    "completions": text_answer,
    "responses": responses_answer,
    "messages": messages_answer,
}
# Steps of a healthy stream up to and with the first word of the answer, and before it.
_UP_TO_CONTENT = {"chat.completions": 3, "completions": 2, "responses": 6, "messages": 4}


@dataclass(frozen=True)
class Call:
    """What the upstream was asked: the endpoint, and in which mode."""

    endpoint: str
    mode: Mode
    model: str = "teacher"

    def whole(self, text: str = TEXT) -> bytes:
        """Return the healthy answer, not streamed."""
        if self.endpoint == "embeddings":
            return embeddings_answer(self.model)
        return _ANSWERS[self.endpoint](self.model, text)

    def steps(self, words: Any = WORDS) -> list[Step]:
        """Return the healthy stream, one event a step."""
        return list(_STREAMS[self.endpoint](self.model, words))

    def healthy(self) -> list[Step]:
        """Return the healthy answer in the mode that was asked for."""
        return self.steps() if self.mode == "stream" else [self.whole()]

    def begun(self) -> list[Step]:
        """Return the beginning: status line and events with the first word; or half of a whole answer."""
        if self.mode == "stream":
            return [*self.steps()[: _UP_TO_CONTENT[self.endpoint]], Wait(SETTLE_S)]
        whole = self.whole()
        return [whole[: len(whole) - 20], Wait(SETTLE_S)]

    def head(self) -> list[Step]:
        """Return the status line and headers alone."""
        return [self.healthy_head(), Wait(SOON_S)]

    def healthy_head(self) -> bytes:
        """Return the head of the healthy answer."""
        first = self.healthy()[0]
        assert isinstance(first, bytes)
        return first.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def event(self, data: bytes) -> bytes:
        """Return one more event of a stream, or the same as a whole body."""
        return framed(b"data: " + data + b"\n\n") if self.mode == "stream" else response(data)


@dataclass(frozen=True)
class Fault:
    """One way to fail. `answered`: the client must have the whole answer all the same; `modes`: where it can happen."""

    name: str
    play: Callable[[Call], Script]
    answered: bool = False
    modes: tuple[Mode, ...] = ("whole", "stream")
    refused: bool = False  # nobody listens at all


def _slow_tokens(call: Call) -> Script:
    if call.mode == "whole":
        whole = call.whole()
        return [whole[:-20], Wait(0.3), whole[-20:-10], Wait(0.3), whole[-10:]]
    return [part for step in call.steps() for part in (step, Wait(0.1))]


def _broken_in_the_middle(data: bytes) -> Callable[[Call], Script]:
    return lambda call: [*call.begun(), call.event(data), LAST]


def _error_object(call: Call) -> bytes:
    error = {"message": "secret stack", "type": "InternalServerError", "param": None, "code": 500}
    return call.event(json.dumps({"error": error}).encode())


def _without_its_terminator(call: Call) -> Script:
    *steps, _ = call.steps()
    return [*steps, LAST]


def _giant(call: Call) -> Script:
    text = "x" * GIANT
    return [call.whole(text)] if call.mode == "whole" else call.steps((text,))


def _endless(call: Call) -> Script:
    block = framed(b"data: " + b"x" * (1024 * 1024))
    return [*call.begun(), *([block] * (ENDLESS // (1024 * 1024))), Hang()]


def _too_long_a_promise(call: Call) -> Script:
    if call.mode == "stream":
        return [*call.begun(), b"ffff\r\ndata: {", Drop()]
    whole = call.whole()
    length = len(whole.partition(b"\r\n\r\n")[2])
    return [whole.replace(b"content-length: %d" % length, b"content-length: %d" % (length + 9)), Wait(SETTLE_S), Drop()]


def _too_short_a_promise(call: Call) -> Script:
    if call.mode == "stream":
        return [*call.begun(), b"2\r\ndata: {}\n\n\r\n", LAST, Drop()]
    whole = call.whole()
    length = len(whole.partition(b"\r\n\r\n")[2])
    return [whole.replace(b"content-length: %d" % length, b"content-length: %d" % (length - 9)), Drop()]


def _status(status: int, message: str | None, extra: str = "") -> Callable[[Call], Script]:
    def play(call: Call) -> Script:
        if message is None:
            return [response(b"", status, extra=extra)]
        if call.endpoint == "messages":
            error = {"type": "error", "error": {"type": "BadRequestError", "message": message}}
            return [response(json.dumps(error).encode(), status, extra=extra)]
        return [error_response(status, message)]

    return play


FAULTS: tuple[Fault, ...] = (
    Fault("none", Call.healthy, answered=True),
    Fault("slow headers", lambda call: [Wait(LONG_WAIT_S), *call.healthy()], answered=True),
    Fault("slow tokens", _slow_tokens, answered=True),
    Fault("giant chunk", _giant, answered=True),
    Fault("stall before the headers", lambda call: [Hang()]),
    Fault("stall before content", lambda call: [*call.head(), Hang()]),
    Fault("stall after content", lambda call: [*call.begun(), Hang()]),
    Fault("disconnect before the first byte", lambda call: [Drop()]),
    Fault("disconnect after the headers", lambda call: [*call.head(), Drop()]),
    Fault("disconnect after content", lambda call: [*call.begun(), Drop()]),
    Fault("reset before the first byte", lambda call: [Drop(reset=True)]),
    Fault("reset after content", lambda call: [*call.begun(), Drop(reset=True)]),
    Fault("half-closed before the first byte", lambda call: [HalfClose(), Hang()]),
    Fault("half-closed after content", lambda call: [*call.begun(), HalfClose(), Hang()]),
    Fault("connection refused", lambda call: [], refused=True),
    Fault("no HTTP", lambda call: [b"\x15\x03\x01 what is this?\r\n\r\n", Drop()]),
    Fault(
        "malformed chunk before content",
        lambda call: [*call.head()[:1], call.event(b"{broken"), LAST],
        modes=("stream",),
    ),
    Fault("malformed chunk after content", _broken_in_the_middle(b"{broken"), modes=("stream",)),
    Fault("malformed body", lambda call: [response(b"{broken")], modes=("whole",)),
    Fault("malformed chunk framing", lambda call: [*call.begun(), b"zz\r\nwhat\r\n", Drop()], modes=("stream",)),
    Fault("no object in a chunk", _broken_in_the_middle(b"[1]"), modes=("stream",)),
    Fault("error object before content", lambda call: [*call.head()[:1], _error_object(call), LAST], modes=("stream",)),
    Fault("error object after content", lambda call: [*call.begun(), _error_object(call), LAST], modes=("stream",)),
    Fault("error object in a 200", lambda call: [_error_object(call)], modes=("whole",)),
    Fault("missing terminator", _without_its_terminator, modes=("stream",)),
    Fault("empty stream", lambda call: [*call.head()[:1], LAST], modes=("stream",)),
    Fault("event without an end", _endless, modes=("stream",)),
    Fault("longer length than the body", _too_long_a_promise),
    Fault("shorter length than the body", _too_short_a_promise),
    Fault("another content type", lambda call: [response(b"<h1>secret</h1>", kind="text/html")]),
    Fault("204 without a body", lambda call: [b"HTTP/1.1 204 No Content\r\n\r\n"]),
    Fault("302", lambda call: [response(b"", 302, extra="location: http://127.0.0.1/\r\n")]),
    Fault("400 with a body", _status(400, "max_tokens is too large")),
    Fault("400 without a body", _status(400, None)),
    Fault("401", _status(401, "secret key is wrong")),
    Fault("404 of the model", _status(404, "The model `secret` does not exist.")),
    Fault("404 of the endpoint", lambda call: [error_response(404, "Not Found")]),
    Fault("413", _status(413, "The prompt is too long.")),
    Fault("422", _status(422, "messages are odd")),
    Fault("429", _status(429, "queue full", "retry-after: 3\r\n")),
    Fault("429 without a body", _status(429, None)),
    Fault("500 with a body", _status(500, "secret stack")),
    Fault("500 without a body", _status(500, None)),
    Fault("501", _status(501, "not implemented")),
    Fault("502 with a page", lambda call: [response(b"<h1>secret gateway</h1>", 502, kind="text/html")]),
    Fault("503 with a body", _status(503, "loading")),
    Fault("503 without a body", _status(503, None)),
)
