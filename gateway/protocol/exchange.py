"""One request on its way: what each step found out, for the steps after it, the headers and the record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.ledger.accounts import Account
from gateway.ledger.identifiers import uuid7
from gateway.ledger.keys import Key
from gateway.protocol.answers import Answer
from gateway.protocol.dialects import DIALECTS, Dialect
from gateway.protocol.preferences import DEFAULT, Preferences, inbound_request_id
from gateway.protocol.requests import Endpoint, InferenceRequest

Prices = tuple[int, int]  # nano-dollars per input and per output token


@dataclass(slots=True)
class Route:
    """Who answers and why, in the record's words; `teacher_prices` are what the teacher would cost."""

    model: str
    role: str
    reason: str
    prices: Prices
    teacher_prices: Prices
    task: str | None = None
    adequacy: float | None = None

    @property
    def decision(self) -> dict[str, Any]:
        """The record's `route`."""
        decision: dict[str, Any] = {"reason": self.reason}
        if self.task is not None:
            decision["task"] = self.task
        if self.adequacy is not None:
            decision["adequacy"] = self.adequacy
        return decision


class Reservation(Protocol):
    """What was reserved of the limits for one request."""

    def settle(self, tokens: int, cost: int) -> None:
        """Spend what was used (tokens, nano-dollars) and give back the rest; a second time does nothing."""
        ...


@dataclass(slots=True)
class Timing:
    """Moments of one request, in `time.perf_counter()` seconds; None: not reached."""

    received: float = field(default_factory=time.perf_counter)
    body_read: float | None = None
    forwarded: float | None = None  # to the first backend
    first_content: float | None = None
    answered: float | None = None  # by the backend: the first content of a stream, all of another answer
    begun: float | None = None  # our answer to the client
    queued_s: float | None = None  # how long it waited because the house was full; None where no bound is set

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

    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds to the first content of a stream, or None."""
        return None if self.first_content is None else (self.first_content - self.received) * 1000


@dataclass(slots=True)
class Exchange:
    """The request's facts; steps add what they find. `id` is ours and the record's, `request_id` the client's."""

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    header_names: tuple[bytes, ...]
    peer: str
    id: str = field(default_factory=uuid7)
    time_ns: int = field(default_factory=time.time_ns)  # since 1970
    timing: Timing = field(default_factory=Timing)
    preferences: Preferences = DEFAULT
    account: Account | None = None
    key: Key | None = None
    request: InferenceRequest | None = None
    route: Route | None = None
    status: int = 0
    error: str | None = None
    cost: int = 0
    tokens: int = 0
    reservation: Reservation | None = None
    recorded: bool = False
    request_id: str = ""
    dialect: Dialect = field(init=False)
    answer: Answer = field(init=False)
    whole: bytes | None = None  # the answer's bytes, where it was not streamed
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # admission wants every answer to carry

    def __post_init__(self) -> None:
        self.dialect = DIALECTS[self.endpoint]
        self.answer = self.dialect.answer()
        self.request_id = inbound_request_id(self.headers) or self.id
