"""A breaker per backend: closed → open → half-open with one trial at a time → recovering → closed.

It learns from requests as they end and from the poller. What opened it decides what closes it: a server that could not
be reached is back when it answers a poll, one that broke off or failed its answers has to show it with a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open", "recovering"]
# unreachable: no connection, or its own word that it is dead; broken: it broke off; failing: it answers, with errors
Cause = Literal["unreachable", "broken", "failing"]

# Failures in a row. One broken connection is no dead server, a refused one is; an error may be the request's own fault.
FAILURES: dict[Cause, int] = {"unreachable": 1, "broken": 3, "failing": 5}
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
TRIAL_S = 5.0  # a trial that is still under way after this long keeps no other waiting
RECOVERY_S = 10.0  # from a tenth of the work to all of it: caches are cold, and a queue at once would drown it
LEAST_SHARE = 0.1


class Breaker:
    """The state of one backend; `clock` gives monotonic seconds."""

    __slots__ = ("_clock", "_failures", "_pause", "_since", "_until", "cause", "state")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.state: State = "closed"
        self.cause: Cause | None = None  # of the last opening
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0  # open: when a trial is due; half-open: when the trial under way has had its time
        self._since = 0.0  # recovering: its beginning

    @property
    def untroubled(self) -> bool:
        """Is there nothing to say of it?"""
        return self.state == "closed" and not self._failures

    def share(self) -> float:
        """Return how much of its weight it may carry now: 0 to 1."""
        if self.state == "closed":
            return 1.0
        if self.state != "recovering":
            return 1.0 if self._clock() >= self._until else 0.0
        grown = (self._clock() - self._since) / RECOVERY_S
        if grown >= 1.0:
            self.state, self._pause = "closed", 0.0
        return min(1.0, max(LEAST_SHARE, grown))

    def begin(self) -> None:
        """Note that a request is sent there; where a trial is due this is it."""
        if self.state in ("open", "half_open") and self._clock() >= self._until:
            self.state, self._until = "half_open", self._clock() + TRIAL_S

    def succeeded(self) -> None:
        """Note an answer. One that began before it opened and ends after proves nothing."""
        if self.state == "open":
            return
        self._failures = 0
        if self.state == "half_open":
            self._recover()

    def failed(self, cause: Cause) -> None:
        """Note a failure, and open when it was the last one that is borne."""
        if self.state == "open":
            return  # of a request from before: the pause is not made longer by it
        self._failures += 1
        if self.state == "half_open" or self._failures >= FAILURES[cause]:
            self._open(cause)

    def abandoned(self) -> None:
        """Note that a request ended without telling anything, because its client left: the next may be the trial."""
        if self.state == "half_open":
            self._until = 0.0

    def seen_dead(self) -> None:
        """Note that a poll could not reach it, or that it says it is dead."""
        if self.state != "open" or self.cause != "unreachable":
            self._open("unreachable")
        # Polls go on: as long as they fail no request has to find out. Should they stop, one does.
        self._until = max(self._until, self._clock() + TRIAL_S)

    def seen_alive(self) -> None:
        """Note that a poll was answered: that is all that was missing where it had not been reached."""
        if self.state in ("open", "half_open") and self.cause == "unreachable":
            self._recover()

    def _open(self, cause: Cause) -> None:
        self._pause = min(LONGEST_PAUSE_S, 2 * self._pause or FIRST_PAUSE_S)
        self.state, self.cause, self._failures = "open", cause, 0
        self._until = self._clock() + self._pause

    def _recover(self) -> None:
        self.state, self._since, self._failures = "recovering", self._clock(), 0
