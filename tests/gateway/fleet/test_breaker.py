"""The breaker's states, with a clock that the test turns."""

from __future__ import annotations

from gateway.fleet.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, RECOVERY_S, TRIAL_S, Breaker, Cause
from tests.checks import Clock


def opened(cause: Cause) -> tuple[Breaker, Clock]:
    """Return a breaker that has just opened, and its clock."""
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES[cause]):
        breaker.failed(cause)
    assert (breaker.state, breaker.share()) == ("open", 0.0)
    return breaker, clock


def test_one_trial_at_a_time() -> None:
    """After the pause one request is let through; no other until it has ended or had its time."""
    breaker, clock = opened("broken")
    clock.now += FIRST_PAUSE_S
    assert breaker.share() == 1.0
    breaker.begin()
    assert (breaker.state, breaker.share()) == ("half_open", 0.0)
    clock.now += TRIAL_S
    assert breaker.share() == 1.0
    breaker.begin()
    breaker.succeeded()
    assert (breaker.state, breaker.share()) == ("recovering", 0.1)
    clock.now += RECOVERY_S
    assert (breaker.share(), breaker.state) == (1.0, "closed")


def test_failed_trials_make_the_pause_longer() -> None:
    """It doubles to a bound, and begins anew once the server has recovered."""
    breaker, clock = opened("failing")
    pauses = []
    for _ in range(7):
        start = clock.now
        while breaker.share() == 0.0:
            clock.now += 0.25
        pauses.append(clock.now - start)
        breaker.begin()
        breaker.failed("failing")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, LONGEST_PAUSE_S]
    clock.now += LONGEST_PAUSE_S
    breaker.begin()
    breaker.succeeded()
    clock.now += RECOVERY_S
    assert breaker.share() == 1.0
    for _ in range(FAILURES["failing"]):
        breaker.failed("failing")
    clock.now += FIRST_PAUSE_S
    assert breaker.share() == 1.0


def test_requests_from_before_it_opened_change_nothing() -> None:
    """Many fail or end together; neither makes the pause longer nor ends it."""
    breaker, clock = opened("broken")
    for _ in range(50):
        breaker.failed("broken")
        breaker.succeeded()
    assert breaker.state == "open"
    clock.now += FIRST_PAUSE_S
    assert breaker.share() == 1.0


def test_a_poll_brings_back_what_could_not_be_reached() -> None:
    """That it answers is all that was missing; who broke its answers off has to answer a request."""
    breaker, _ = opened("unreachable")
    breaker.seen_alive()
    assert breaker.state == "recovering"
    broken, _ = opened("broken")
    broken.seen_alive()
    assert broken.state == "open"


def test_polls_keep_the_dead_away() -> None:
    """While they fail no request is spent on finding out; without polls one is, after a while."""
    breaker, clock = opened("unreachable")
    for _ in range(20):
        breaker.seen_dead()
        clock.now += 1.0
        assert breaker.share() == 0.0
    clock.now += TRIAL_S
    assert breaker.share() == 1.0
