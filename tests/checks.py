"""One conformance suite for every implementation of a seam: what a router and a limiter promise, whoever wrote them."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.ledger.limits import Limit, Limits
from gateway.limits.leases import LeasedLimiter, LimitReached, Plan, Reservation
from gateway.routing import Candidate, RouteDecision, Router, RouteRequest

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0  # 2026-09-21, 14:13:20 UTC

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


class Subject:
    """A limiter on a clock that a test turns; `run` runs what it does for a request on its event loop."""

    def __init__(self, limiter: LeasedLimiter, clock: Clock, run: Run) -> None:
        self.limiter = limiter
        self.clock = clock
        self.run = run

    def plan(self, limits: Limits, account: str = "a", key: str = "k", model: str = "m") -> Plan:
        """Return the plan for a request that these limits bind."""
        plan = self.limiter.plan(limits, account, key, model)
        assert plan is not None
        return plan

    def reserve(self, plan: Plan, tokens: int = 0, cost: int = 0) -> Reservation:
        """Reserve as the request path does; `LimitReached` when it can't be."""
        found = self.limiter.reserve(plan, tokens, cost)
        if found is None:
            found = self.run(self.limiter.acquire(plan, tokens, cost))
        assert isinstance(found, Reservation)
        return found

    def refused(self, plan: Plan, tokens: int = 0, cost: int = 0) -> LimitReached:
        """Return why a reservation is refused, which it must be."""
        with pytest.raises(LimitReached) as caught:
            self.reserve(plan, tokens, cost)
        return caught.value

    def count(self, plan: Plan, tokens: int = 0, cost: int = 0) -> list[Reservation]:
        """Reserve until it is refused."""
        found: list[Reservation] = []
        while len(found) < 10_000:
            try:
                found.append(self.reserve(plan, tokens, cost))
            except LimitReached:
                break
        return found

    def tick(self, times: int = 2) -> None:
        """Let time pass as the limiter's own task does; after two ticks what is idle has gone back."""
        for _ in range(times):
            self.run(self.limiter.tick())


def limits_of(**quantities: int) -> Limits:
    """Return limits of the account `a`."""
    return {("account", "a"): Limit("account", "a", **quantities)}  # type: ignore[arg-type]


def check_limiter(make: Callable[[], Subject]) -> None:
    """Check a limiter alone on its store: it lets each limit through, no more, its times are true, it gives back.

    `make` returns a new limiter on a store in which nothing is yet.
    """
    for check in (
        _check_no_limit,
        _check_burst,
        _check_refill_time,
        _check_long_run,
        _check_tokens,
        _check_slots,
        _check_budget,
        _check_windows,
        _check_all_or_nothing,
        _check_debt,
        _check_expiry,
        _check_lifetime,
        _check_change,
        _check_headers,
    ):
        subject = make()
        try:
            check(subject)
        finally:
            subject.run(subject.limiter.close())


def _check_no_limit(subject: Subject) -> None:
    assert subject.limiter.plan({}, "a", "k", "m") is None
    assert subject.limiter.plan(limits_of(rpm=1), "b", "k", "m") is None


def _check_burst(subject: Subject) -> None:
    plan = subject.plan(limits_of(rpm=5))
    assert len(subject.count(plan)) == 5
    other = {("account", name): Limit("account", name, rpm=1) for name in "ab"}
    subject.clock.now += 60
    assert len(subject.count(subject.plan(other))) == 1
    assert len(subject.count(subject.plan(other, "b"))) == 1, "one account's requests counted for another"


def _check_refill_time(subject: Subject) -> None:
    for limit in (1, 7, 60, 1000):
        subject.clock.now += 120
        plan = subject.plan(limits_of(rpm=limit))
        assert len(subject.count(plan)) == limit
        wait = subject.refused(plan).wait_s
        assert wait is not None
        assert math.isclose(wait, 60.0 / limit, rel_tol=1e-4)
        start = subject.clock.now
        subject.clock.now = start + wait * 0.99
        subject.refused(plan)  # not before the time that was named
        subject.clock.now = start + wait + 1e-6
        subject.reserve(plan)  # but then


def _check_long_run(subject: Subject) -> None:
    plan = subject.plan(limits_of(rpm=30))
    taken = 0
    for _ in range(600):
        taken += len(subject.count(plan))
        subject.clock.now += 1.0  # ten minutes in all
    assert 30 * 10 <= taken <= 30 * 11


def _check_tokens(subject: Subject) -> None:
    plan = subject.plan(limits_of(tpm=1000))
    first = subject.reserve(plan, tokens=900)
    assert subject.refused(plan, tokens=200).wait_s == pytest.approx(6.0)
    first.settle(100, 0)
    assert len(subject.count(plan, tokens=300)) == 3, "what was not used did not come back"
    assert subject.refused(plan, tokens=1001).wait_s is None, "it will never fit"


def _check_slots(subject: Subject) -> None:
    plan = subject.plan(limits_of(parallel=3))
    taken = subject.count(plan)
    assert len(taken) == 3
    taken[0].settle(5, 5)
    taken[0].settle(5, 5)
    assert len(subject.count(plan)) == 1, "a reservation was given back twice"


def _check_budget(subject: Subject) -> None:
    plan = subject.plan(limits_of(usd_day=1000))
    open_ones = subject.count(plan, cost=300)
    assert len(open_ones) == 3
    assert not subject.refused(plan, cost=300).spent, "it is held, not spent"
    for reservation in open_ones:
        reservation.settle(0, 250)
    assert len(subject.count(plan, cost=250)) == 1
    assert subject.refused(plan, cost=251).spent


def _check_windows(subject: Subject) -> None:
    limits = limits_of(usd_day=1000, usd_month=1500)
    subject.reserve(subject.plan(limits), cost=1000).settle(0, 1000)
    late = subject.reserve(subject.plan(limits_of(parallel=1)))
    assert subject.refused(subject.plan(limits), cost=1).meter.quantity == "usd_day"
    subject.clock.now += 86400
    subject.reserve(subject.plan(limits), cost=500).settle(0, 500)
    assert subject.refused(subject.plan(limits), cost=1).meter.quantity == "usd_month"
    subject.clock.now += 31 * 86400
    subject.reserve(subject.plan(limits), cost=1000)
    late.settle(0, 0)


def _check_all_or_nothing(subject: Subject) -> None:
    limits = {
        ("account", "a"): Limit("account", "a", rpm=10, parallel=10),
        ("key", "k"): Limit("key", "k", usd_day=100),
        ("model", "m"): Limit("model", "m", tpm=1000),
    }
    plan = subject.plan(limits)
    assert subject.refused(plan, tokens=10, cost=101).meter.subject == "key"
    assert subject.refused(plan, tokens=1001, cost=1).meter.subject == "model"
    subject.tick()
    assert len(subject.count(plan, tokens=10, cost=10)) == 10, "a refused request took something"


def _check_debt(subject: Subject) -> None:
    plan = subject.plan(limits_of(usd_day=1000))
    subject.reserve(plan, cost=100).settle(0, 400)
    subject.tick()
    assert len(subject.count(plan, cost=100)) == 6, "what was used over the bound was forgotten"


def _check_expiry(subject: Subject) -> None:
    plan = subject.plan(limits_of(parallel=1, usd_day=100))
    forgotten = subject.reserve(plan, cost=100)
    subject.clock.now += 661
    subject.tick()
    subject.reserve(plan, cost=100)
    forgotten.settle(0, 100)
    assert subject.refused(plan, cost=1)


def _check_lifetime(subject: Subject) -> None:
    plan = subject.plan(limits_of(parallel=1))
    subject.limiter.expect(2000.0)
    long_one = subject.reserve(plan)
    subject.clock.now += 1999
    subject.tick()
    subject.refused(plan)  # it is still under way
    long_one.settle(0, 0)
    subject.reserve(plan)


def _check_change(subject: Subject) -> None:
    subject.reserve(subject.plan(limits_of(usd_day=1000)), cost=100).settle(0, 100)
    subject.tick()
    assert len(subject.count(subject.plan(limits_of(usd_day=300)), cost=100)) == 2


def _check_headers(subject: Subject) -> None:
    plan = subject.plan(limits_of(rpm=60, tpm=6000))
    subject.reserve(plan, tokens=100)
    assert subject.limiter.left(plan.requests) == (60, 59, 1.0)
    assert subject.limiter.left(plan.tokens) == (6000, 5900, 1.0)
    subject.count(plan, tokens=1)
    assert subject.limiter.left(plan.requests) == (60, 0, 60.0)
    assert subject.limiter.left(()) is None
