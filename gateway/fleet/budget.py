"""A retry budget per model: retries are a share of its requests, so that a failing fleet meets no storm of them.

A token bucket with the numbers of Finagle's `RetryBudget`: every request puts a fifth of a retry in, ten more come a
second (so that little traffic has retries too), and at most ten seconds' worth of those are saved up. Google's SRE
book, "Handling Overload", says why the budget is the client's, and why three attempts are enough for one request.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PER_REQUEST = 0.2
PER_SECOND = 10.0
MOST = 100.0
MOST_ATTEMPTS = 3  # of one request


class RetryBudget:
    """The retries that one worker may make for one model. `spent` and `refused` count them for the metrics."""

    __slots__ = ("_balance", "_clock", "_last", "refused", "spent")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._balance = MOST
        self._last = clock()
        self.spent = 0
        self.refused = 0

    def deposit(self) -> None:
        """Note a request."""
        if self._balance < MOST:
            self._balance += PER_REQUEST

    def withdraw(self) -> bool:
        """Take one retry; False when the request has to bear its failure."""
        moment = self._clock()
        self._balance = min(MOST, self._balance + (moment - self._last) * PER_SECOND)
        self._last = moment
        if self._balance < 1.0:
            self.refused += 1
            return False
        self._balance -= 1.0
        self.spent += 1
        return True
