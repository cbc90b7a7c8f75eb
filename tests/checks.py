"""One conformance suite for every implementation of a seam: what a router and a limiter promise, whoever wrote them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from gateway.limits.bucket import Allowance
from gateway.routing import Candidate, RouteDecision, Router, RouteRequest


class Limiter(Protocol):
    """What `check_limiter` checks."""

    def take(self, key: str, limit: int) -> Allowance:
        """Take one request of `limit` per minute."""
        ...


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def check_router(router: Router, task: RouteRequest, foreign: RouteRequest, candidates: Sequence[Candidate]) -> None:
    """Check a router with a teacher and one promoted student that is cheaper; `task` belongs to the student's task.

    A router never sends a request to a model that is down while the teacher is there, never lowers quality where the
    caller forbids it, gives a documented reason, and decides alike for like requests.
    """
    teacher = next(c for c in candidates if c.role == "teacher")
    student = next(c for c in candidates if c.role == "student")

    assert _choose(router, task, [teacher]).candidate is teacher
    assert _choose(router, task, candidates).candidate is student
    assert _choose(router, task, list(reversed(candidates))).candidate is student
    assert _choose(router, foreign, candidates).candidate is teacher
    careful = replace(task, preferences=replace(task.preferences, high_stakes=True))
    assert _choose(router, careful, candidates).reason == "stakes"
    assert _choose(router, careful, candidates).candidate is teacher
    strict = replace(task, preferences=replace(task.preferences, quality_floor=1.0))
    assert _choose(router, strict, candidates).candidate is teacher
    for diverted in (replace(request, diverted=True) for request in (task, foreign, careful, strict)):
        assert _choose(router, diverted, candidates).candidate is student
        assert _choose(router, diverted, candidates).reason == "policy"
    for backend in student.pool.backends:
        backend.seen(alive=False)
    assert _choose(router, task, candidates).candidate is teacher
    assert _choose(router, task, candidates).reason == "unhealthy"


def _choose(router: Router, request: RouteRequest, candidates: Sequence[Candidate]) -> RouteDecision:
    decision = router.choose(request, candidates)
    again = router.choose(request, candidates)
    assert decision == again, "the same request got two decisions"
    assert decision.candidate in candidates
    return decision


def check_limiter(make: Callable[[Clock], Limiter]) -> None:
    """Check a limiter for one worker: it lets the limit through, no more, and its times are true."""
    _check_burst(make)
    _check_refill_time(make)
    _check_long_run(make)
    _check_keys_are_apart(make)


def _check_burst(make: Callable[[Clock], Limiter]) -> None:
    limiter = make(Clock())
    for used in range(1, 6):
        allowance = limiter.take("a", 5)
        assert allowance.taken
        assert (allowance.limit, allowance.remaining) == (5, 5 - used)
    assert not limiter.take("a", 5).taken
    assert not limiter.take("zero", 0).taken


def _check_refill_time(make: Callable[[Clock], Limiter]) -> None:
    for limit in (1, 7, 60, 1000):
        clock = Clock()
        limiter = make(clock)
        while (allowance := limiter.take("a", limit)).taken:
            pass
        assert math.isclose(allowance.retry_after_s, 60.0 / limit, rel_tol=1e-6)
        start = clock.now
        clock.now = start + allowance.retry_after_s * 0.99
        assert not limiter.take("a", limit).taken, "it was let through before the time that was named"
        clock.now = start + allowance.retry_after_s
        assert limiter.take("a", limit).taken, "it was refused after the time that was named"


def _check_long_run(make: Callable[[Clock], Limiter]) -> None:
    clock = Clock()
    limiter = make(clock)
    taken = 0
    for _ in range(6000):
        taken += limiter.take("a", 30).taken
        clock.now += 0.1  # ten minutes in all
    assert 30 * 10 <= taken <= 30 * 11


def _check_keys_are_apart(make: Callable[[Clock], Limiter]) -> None:
    limiter = make(Clock())
    assert limiter.take("a", 1).taken
    assert not limiter.take("a", 1).taken
    assert limiter.take("b", 1).taken
