"""The seam between the relay and an endpoint's wire form: what every dialect says of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from gateway.errors import GatewayError
from gateway.protocol.answers import Answer, error_in_stream
from gateway.protocol.sse import DONE, error_event

Endpoint = Literal["chat.completions", "completions", "embeddings", "responses", "messages", "messages.count_tokens"]
Body = dict[str, Any]


@dataclass(frozen=True)
class ErrorForm:
    """How a failure looks: `body` of an answer, `events` that end a stream which has begun, given the request's id."""

    body: Callable[[GatewayError, str], bytes]
    events: Callable[[GatewayError, str, Answer], bytes]


def openai_error_events(error: GatewayError, request_id: str, answer: Answer) -> bytes:
    """Return one error event and the terminator."""
    return error_event(error.encoded()) + DONE


OPENAI_ERRORS = ErrorForm(lambda error, request_id: error.encoded(), openai_error_events)


@dataclass(frozen=True)
class Dialect:
    """One endpoint's form on the wire.

    - `path`: where it is, here and at the backend.
    - `check`: raises `BadRequest` or `UnsupportedParameter` for what we look at, the rest is the backend's to judge;
      told true, it lets pass what gives away more than OpenAI's API does.
    - `subject`: the body in the record's terms, OpenAI's chat or completions; routing and record read nothing else.
    - `text`: the subject's field with the prompt, `messages` or `prompt`.
    - `answer`: makes the collector of a backend's answer.
    - `changes`: fields of the body that the backend gets otherwise, empty for almost every request.
    - `stripped`: fields of the body that the backend gets otherwise of an account that is stripped (`strip`).
    - `failed`: the error that a whole answer or an event stands for, or None.
    - `errors`: how our own failures are told.
    - `output_limits`: the fields that bound the output, the one that counts first.
    - `assumed_output`: the tokens that the backend allows an answer whose caller set no bound; by default all that fit.
    - `terminals`: types of the event that ends a stream; empty where the stream ends with `[DONE]`.
    - `hides_usage`: does a stream carry usage that only we asked for?
    - `streams`, `automatic`, `recorded`: may it be streamed, may `auto` choose the model, is it traffic?
    - `passed_on`: the client's headers that the backend gets too.
    - `id_headers`: the headers that carry the request's id.
    """

    endpoint: Endpoint
    path: str
    check: Callable[[Body, bool], None]
    subject: Callable[[Body], Body]
    answer: Callable[[], Answer]
    text: Literal["messages", "prompt"] = "messages"
    changes: Callable[[Body, bool], Body] = lambda body, stream: {}
    stripped: Callable[[Body], Body] = lambda body: {}
    failed: Callable[[Body], GatewayError | None] = error_in_stream
    errors: ErrorForm = OPENAI_ERRORS
    output_limits: tuple[str, ...] = ()
    assumed_output: float = math.inf
    terminals: frozenset[str] = frozenset()
    hides_usage: bool = False
    streams: bool = True
    automatic: bool = True
    recorded: bool = True
    passed_on: tuple[bytes, ...] = ()
    id_headers: tuple[bytes, ...] = (b"x-request-id",)

    @cached_property
    def nothing(self) -> Answer:
        """The answer of a request that nobody has answered; it stays empty."""
        return self.answer()
