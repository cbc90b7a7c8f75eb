"""One request on its way: what each step found out, for the steps after it, the headers and the record."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from gateway.ledger.accounts import Account
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.identifiers import uuid7
from gateway.ledger.keys import Key
from gateway.protocol.answers import Answer
from gateway.protocol.call import header_line
from gateway.protocol.dialects import DIALECTS
from gateway.protocol.head import Head
from gateway.protocol.preferences import DEFAULT, Preferences
from gateway.protocol.requests import Endpoint, InferenceRequest

Prices = tuple[int, int]  # nano-dollars per input and per output token


class Route:
    """Who answers and why, in the record's words; `teacher_prices` are what the teacher would cost.

    `decision` is the record's `route`, `lines` are the headers that tell the client.
    """

    def __init__(
        self,
        model: str,
        role: str,
        reason: str,
        prices: Prices,
        teacher_prices: Prices,
        task: str | None = None,
        adequacy: float | None = None,
    ) -> None:
        self.model = model
        self.role = role
        self.reason = reason
        self.prices = prices
        self.teacher_prices = teacher_prices
        self.decision: dict[str, Any] = {"reason": reason}
        if task is not None:
            self.decision["task"] = task
        if adequacy is not None:
            self.decision["adequacy"] = adequacy
        self.lines = header_line(b"x-spiritsafe-model", model) + header_line(b"x-spiritsafe-route-reason", reason)


class Reservation(Protocol):
    """What was reserved of the limits for one request."""

    def settle(self, tokens: int, cost: int) -> None:
        """Spend what was used (tokens, nano-dollars) and give back the rest; a second time does nothing."""
        ...


class Timing:
    """Moments of one request, in `time.perf_counter()` seconds; None: not reached."""

    # Most requests reach few of them, so that only those are set which do.
    body_read: float | None = None
    forwarded: float | None = None  # to the first backend
    first_content: float | None = None
    answered: float | None = None  # by the backend: the first content of a stream, all of another answer
    begun: float | None = None  # our answer to the client
    queued_s: float | None = None  # how long it waited because the house was full; None where no bound is set

    def __init__(self) -> None:
        self.received = time.perf_counter()

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return (time.perf_counter() - self.received) * 1000

    def overhead_ms(self) -> float:
        """Milliseconds spent here until our answer began, but for the client's sending, queue and backend."""
        start = (self.body_read or self.received) + (self.queued_s or 0.0)
        if self.forwarded is None:
            return (time.perf_counter() - start) * 1000
        before = self.forwarded - start
        after = 0.0 if self.answered is None else (self.begun or time.perf_counter()) - self.answered
        return (before + max(0.0, after)) * 1000


class Exchange:
    """The request's facts; steps add what they find. `id` is ours and the record's, `request_id` the client's."""

    preferences: Preferences = DEFAULT
    account: Account | None = None
    key: Key | None = None
    request: InferenceRequest | None = None
    route: Route | None = None
    status: int = 0
    error: str | None = None
    cost: int = 0
    tokens: int = 0
    output_tokens: int = 0
    reservation: Reservation | None = None
    recorded: bool = False
    # Where records must be on the disk before answers end: this one's way there, and what kept it from arriving.
    unsynced: asyncio.Future[SpoolUnavailable | None] | None = None
    whole: bytes | None = None  # the answer's bytes, where it was not streamed
    answer_lines: bytes = b""  # the headers that admission wants every answer to carry

    def __init__(self, endpoint: Endpoint, head: Head, peer: str) -> None:
        self.endpoint = endpoint
        self.head = head
        self.peer = peer
        self.timing = Timing()
        self.time_ns = time.time_ns()  # since 1970
        self.id = uuid7()
        self.request_id = head.request_id or self.id
        self.dialect = DIALECTS[endpoint]
        self.answer: Answer = self.dialect.nothing
