"""Requests per minute by token bucket, in the worker's own memory.

With several workers each holds limit ÷ workers, because the kernel spreads connections over them; every bucket takes
at least one request, so that a limit below the number of workers still lets some through (at the limit's rate).
A burst may use the whole minute's requests at once; after it they come back one by one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_SWEEP_S = 60.0


@dataclass(frozen=True)
class Allowance:
    """What a bucket said. Seconds: `reset_s` until it is full, `retry_after_s` until one fits (0: taken)."""

    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float

    @property
    def taken(self) -> bool:
        """May the request go on?"""
        return self.retry_after_s == 0.0


@dataclass
class _Bucket:
    tokens: float
    at: float
    full_at: float = 0.0


class RequestLimiter:
    """Token buckets by key. `clock` gives seconds and never goes back."""

    def __init__(self, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._swept = clock()

    def take(self, key: str, limit: int) -> Allowance:
        """Take one request of `limit` per minute from the key's bucket, or say when one will fit."""
        if limit <= 0:
            return Allowance(0, 0, math.inf, math.inf)
        moment = self._clock()
        self._sweep(moment)
        capacity = max(1.0, limit / self._workers)
        rate = limit / self._workers / 60.0
        bucket = self._buckets.setdefault(key, _Bucket(capacity, moment))
        tokens = min(capacity, bucket.tokens + (moment - bucket.at) * rate)
        # Refilling for exactly the time we named must be enough, whatever the rounding.
        taken = tokens >= 1.0 - 1e-9
        bucket.tokens, bucket.at = tokens - taken, moment
        bucket.full_at = moment + (capacity - bucket.tokens) / rate
        retry_after = 0.0 if taken else (1.0 - tokens) / rate
        remaining = min(limit, max(0, math.floor(bucket.tokens + 1e-9)) * self._workers)
        return Allowance(limit, remaining, bucket.full_at - moment, retry_after)

    def _sweep(self, moment: float) -> None:
        # A full bucket knows nothing that a new one would not; dropping them bounds memory by the keys in use.
        if moment - self._swept >= _SWEEP_S:
            self._swept = moment
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.full_at > moment}
