"""Requests per minute by token bucket."""

from gateway.limits.bucket import RequestLimiter
from tests.checks import Clock, check_limiter


def test_it_is_a_limiter() -> None:
    """It keeps what every limiter promises."""
    check_limiter(lambda clock: RequestLimiter(clock=clock))


def test_workers_share_a_limit() -> None:
    """Four workers together let the limit through in a minute after the first burst, each its share."""
    clock = Clock()
    workers = [RequestLimiter(4, clock) for _ in range(4)]
    burst = sum(worker.take("a", 40).taken for worker in workers for _ in range(40))
    assert burst == 40
    clock.now += 60.0
    assert sum(worker.take("a", 40).taken for worker in workers for _ in range(40)) == 40


def test_a_limit_below_the_number_of_workers_lets_requests_through() -> None:
    """Two requests a minute over eight workers are still two a minute in the long run, and never none."""
    clock = Clock()
    workers = [RequestLimiter(8, clock) for _ in range(8)]
    assert workers[3].take("a", 2).taken
    refused = workers[3].take("a", 2)
    assert refused.retry_after_s == 240.0
    clock.now += 240.0
    assert workers[3].take("a", 2).taken


def test_memory_is_bounded_by_the_keys_in_use() -> None:
    """Buckets that are full again are forgotten."""
    clock = Clock()
    limiter = RequestLimiter(clock=clock)
    for number in range(1000):
        limiter.take(f"key-{number}", 60)
    clock.now += 120.0
    limiter.take("one more", 60)
    assert len(limiter._buckets) == 1
