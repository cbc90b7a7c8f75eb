"""One request on its way: what each step found out, for the steps after it, the headers and the record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from gateway.ledger.accounts import Account
from gateway.ledger.identifiers import now, uuid7
from gateway.ledger.keys import Key
from gateway.protocol.answers import Answer
from gateway.protocol.dialects import DIALECTS
from gateway.protocol.preferences import Preferences, inbound_request_id
from gateway.protocol.requests import Endpoint, InferenceRequest

Prices = tuple[int, int]  # nano-dollars per input and per output token


@dataclass(frozen=True)
class Route:
    """Who answers and why, in the record's words; `teacher_prices` are what the teacher would cost."""

    model: str
    role: str
    reason: str
    prices: Prices
    teacher_prices: Prices
    task: str | None = None
    adequacy: float | None = None


@dataclass
class Timing:
    """Moments of one request, in `time.perf_counter()` seconds; None: not reached."""

    received: float = field(default_factory=time.perf_counter)
    body_read: float | None = None
    forwarded: float | None = None  # to the first backend
    first_content: float | None = None
    answered: float | None = None  # by the backend: the first content of a stream, all of another answer
    begun: float | None = None  # our answer to the client

    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return (time.perf_counter() - self.received) * 1000

    def overhead_ms(self) -> float:
        """Milliseconds spent here until our answer began, but for the client's sending and the wait for the backend."""
        start = self.body_read or self.received
        if self.forwarded is None:
            return (time.perf_counter() - start) * 1000
        before = self.forwarded - start
        after = 0.0 if self.answered is None else (self.begun or time.perf_counter()) - self.answered
        return (before + max(0.0, after)) * 1000

    def time_to_first_token_ms(self) -> float | None:
        """Milliseconds to the first content of a stream, or None."""
        return None if self.first_content is None else (self.first_content - self.received) * 1000


@dataclass
class Exchange:
    """The request's facts; steps add what they find. `id` is ours and the record's, `request_id` the client's."""

    endpoint: Endpoint
    headers: dict[bytes, bytes]
    header_names: tuple[bytes, ...]
    peer: str
    id: str = field(default_factory=uuid7)
    time: datetime = field(default_factory=now)
    timing: Timing = field(default_factory=Timing)
    preferences: Preferences = field(default_factory=Preferences)
    account: Account | None = None
    key: Key | None = None
    request: InferenceRequest | None = None
    route: Route | None = None
    status: int = 0
    error: str | None = None
    cost: int = 0
    recorded: bool = False

    def __post_init__(self) -> None:
        self.dialect = DIALECTS[self.endpoint]
        self.answer: Answer = self.dialect.answer()
        self.request_id = inbound_request_id(self.headers) or self.id
        self.answer_headers: list[tuple[bytes, bytes]] = []  # what admission wants every answer to carry
