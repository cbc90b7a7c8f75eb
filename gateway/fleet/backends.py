"""A backend: one vLLM URL, with the work that is open there and what is known of its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from gateway.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.fleet.affinity import seed_of
from gateway.fleet.breaker import Breaker, Cause
from gateway.fleet.load import Load

# A 429 or 503 keeps requests away for the time it names, within these bounds.
SHORTEST_BUSY_S, LONGEST_BUSY_S = 0.1, 10.0
CROWDED_CACHE = 0.95  # of the KV cache
CAUSES: tuple[tuple[type[GatewayError], Cause], ...] = (
    (UpstreamUnreachable, "unreachable"),
    (UpstreamDisconnected, "broken"),
    (UpstreamProtocol, "broken"),
    (UpstreamFailed, "failing"),
    (UpstreamTimeout, "failing"),
)


class Backend:
    """One vLLM server, shared by all models that name its URL. It counts as up until shown otherwise.

    `clear` says that nothing is the matter, so that the common case costs one look. `with backend.carrying():` goes
    around each request that is sent there.
    """

    __slots__ = (
        "_busy_until",
        "_clock",
        "_drained",
        "breaker",
        "broke_off",
        "clear",
        "crowded",
        "inflight",
        "load",
        "others",
        "seed",
        "url",
    )

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.seed = seed_of(url)
        self.inflight = 0  # requests of this worker
        self.others = 0  # everybody else's, as last reported
        self.load: Load | None = None  # as last reported
        self.crowded = False  # does it queue for want of cache, so that another prefix would push one out?
        self.broke_off = False  # was that how the last request failed?
        self.breaker = Breaker(clock)
        self.clear = True
        self._clock = clock
        self._busy_until = 0.0
        self._drained = False

    @property
    def up(self) -> bool:
        """Is it not known to be broken?"""
        return self.breaker.state != "open"

    @property
    def drained(self) -> bool:
        """Has an operator taken it out?"""
        return self._drained

    def share(self) -> float:
        """Return how much of its weight it may carry now: 0 (nothing) to 1."""
        if self.clear:
            return 1.0
        if self._drained or self.busy_s > 0.0:
            return 0.0
        share = self.breaker.share()
        self._look()
        return share

    @property
    def busy_s(self) -> float:
        """Seconds that it still wants to be left alone."""
        return max(0.0, self._busy_until - self._clock())

    @property
    def serves_at_worst(self) -> bool:
        """May it be asked when no other is left? One that answers with errors may, it could be the requests' fault."""
        return not self._drained and self.busy_s == 0.0 and self.breaker.cause == "failing"

    def carrying(self) -> Backend:
        """Return the block in which one request counts as open, and from whose end it learns."""
        return self

    def __enter__(self) -> Backend:
        """Begin a request."""
        self.inflight += 1
        if not self.clear:
            self.breaker.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a request: a client that left says nothing about the server."""
        self.inflight -= 1
        if error is None:
            self.succeeded()
        elif isinstance(error, GatewayError):
            self.failed(error)
        elif not self.clear:
            self.breaker.abandoned()

    def succeeded(self) -> None:
        """Note that it answered."""
        if not self.clear or not self.breaker.untroubled:
            self.breaker.succeeded()
            self._look()

    def failed(self, error: GatewayError) -> None:
        """Note how a request failed: busy is not broken, and what it says about the request is an answer."""
        self.broke_off = isinstance(error, UpstreamDisconnected)
        if isinstance(error, UpstreamBusy):
            pause = min(LONGEST_BUSY_S, max(SHORTEST_BUSY_S, error.retry_after or 0.0))
            self._busy_until = self._clock() + pause
            self.breaker.abandoned()
        elif isinstance(error, UpstreamTimeout) and not error.blames_backend:
            self.breaker.abandoned()
        else:
            cause = next((cause for kind, cause in CAUSES if isinstance(error, kind)), None)
            if cause is None:
                self.breaker.succeeded()
            else:
                self.breaker.failed(cause)
        self._look()

    def report(self, load: Load | None) -> None:
        """Note what a poll found; its requests that are ours are counted here as they come and go."""
        self.load = load
        self.others = 0 if load is None else max(0, load.running + load.waiting - self.inflight)
        self.crowded = load is not None and load.waiting > 0 and load.kv_cache > CROWDED_CACHE

    def seen(self, *, alive: bool) -> None:
        """Note how a poll went."""
        if alive:
            self.breaker.seen_alive()
        else:
            self.breaker.seen_dead()
        self._look()

    def drain(self, drained: bool) -> None:
        """Take it out, or back in; requests under way are left alone."""
        self._drained = drained
        self._look()

    def _look(self) -> None:
        self.clear = not self._drained and self._busy_until <= self._clock() and self.breaker.state == "closed"
