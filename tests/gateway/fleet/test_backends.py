"""What a backend learns from requests and polls."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError, UpstreamBusy, UpstreamDisconnected, UpstreamFailed, UpstreamUnreachable
from gateway.fleet.backends import LONGEST_BUSY_S, Backend
from gateway.fleet.breaker import FAILURES, RECOVERY_S
from gateway.fleet.load import Load
from tests.checks import Clock

URL = "http://127.0.0.1:1001"


def fail(backend: Backend, error: BaseException) -> None:
    """Send a request that ends so."""
    with pytest.raises(type(error)), backend.carrying():
        raise error


def test_failures_take_a_backend_down_by_their_kind() -> None:
    """No connection does at once, broken ones and errors after several in a row."""
    for error, most in (
        (UpstreamUnreachable("refused"), FAILURES["unreachable"]),
        (UpstreamDisconnected("left"), FAILURES["broken"]),
        (UpstreamFailed("500"), FAILURES["failing"]),
    ):
        backend = Backend(URL)
        for number in range(1, most + 1):
            assert backend.up
            fail(backend, error)
            assert backend.up == (number < most)
        assert backend.inflight == 0


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    """So does a refusal of the request itself: the server is there."""
    backend = Backend(URL)
    for _ in range(10):
        fail(backend, UpstreamDisconnected("left"))
        fail(backend, GatewayError("400 of its own"))
        fail(backend, UpstreamDisconnected("left"))
        with backend.carrying():
            pass
    assert backend.up


def test_busy_is_not_broken() -> None:
    """A 429 or 503 keeps requests away for its time, within bounds, however often it comes."""
    clock = Clock()
    backend = Backend(URL, clock)
    for seconds, pause in ((3.0, 3.0), (600.0, LONGEST_BUSY_S)):
        for _ in range(10):
            fail(backend, UpstreamBusy("full", retry_after=seconds))
        assert (backend.up, backend.share(), backend.busy_s) == (True, 0.0, pause)
        clock.now += pause
        assert (backend.share(), backend.clear) == (1.0, True)


def test_a_client_that_leaves_says_nothing() -> None:
    """Neither for nor against the server; a trial that ends so is made again by the next request."""
    clock = Clock()
    backend = Backend(URL, clock)
    for _ in range(10):
        fail(backend, asyncio.CancelledError())
    assert backend.clear
    for _ in range(FAILURES["broken"]):
        fail(backend, UpstreamDisconnected("left"))
    clock.now += 1.0
    fail(backend, asyncio.CancelledError())
    assert (backend.breaker.state, backend.share()) == ("half_open", 1.0)


def test_a_recovered_backend_gets_its_work_back_slowly() -> None:
    """From a tenth to all of it over the recovery time."""
    clock = Clock()
    backend = Backend(URL, clock)
    backend.seen(alive=False)
    backend.seen(alive=True)
    shares = []
    for _ in range(5):
        shares.append(backend.share())
        clock.now += RECOVERY_S / 4
    assert shares == [0.1, 0.25, 0.5, 0.75, 1.0]
    assert backend.clear


def test_reported_work_counts_ours_once() -> None:
    """What others have open there is as last reported, what this worker has open as it is now."""
    backend = Backend(URL)
    with backend.carrying(), backend.carrying():
        backend.report(Load(running=5, waiting=2, kv_cache=0.5))
        assert backend.inflight + backend.others == 7
    assert backend.inflight + backend.others == 5
    backend.report(None)
    assert backend.others == 0


def test_a_drained_backend_finishes_what_it_has() -> None:
    """It gets nothing new and counts as up."""
    backend = Backend(URL)
    with backend.carrying():
        backend.drain(True)
        assert (backend.share(), backend.inflight, backend.up) == (0.0, 1, True)
    assert not backend.clear
    backend.drain(False)
    assert backend.clear
