"""Backends, pools, and how their health is known."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError, NoBackend, UpstreamDisconnected, UpstreamFailed, UpstreamUnreachable
from gateway.fleet.backends import FAILURES_UNTIL_DOWN, Backend, Fleet
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.health import HealthPoller
from tests.fakes import FakeVllm

A, B = "http://127.0.0.1:1001", "http://127.0.0.1:1002"


def test_the_least_busy_backend_is_tried_first() -> None:
    """Attempts begin where the least work is open and go on with another backend."""
    pool = Fleet().pool("teacher", [A, B])
    pool.backends[0].inflight = 2
    assert [backend.url for backend in pool.attempts()] == [B, A]


def test_a_sole_backend_is_tried_twice() -> None:
    """The first failure may have been a connection that was just closing."""
    assert [backend.url for backend in Fleet().pool("teacher", [A]).attempts()] == [A, A]


def test_a_backend_that_goes_down_is_not_tried_again() -> None:
    """After a refused connection the next attempt, if there is one, goes elsewhere."""
    pool = Fleet().pool("teacher", [A])
    attempts = pool.attempts()
    _fail(next(attempts), UpstreamUnreachable("refused"))
    assert list(attempts) == []
    with pytest.raises(NoBackend):
        next(pool.attempts())


def test_failures_take_a_backend_down_by_their_kind() -> None:
    """No connection does at once, broken ones after several in a row, errors that it answers never."""
    refused, broken, answering = (Fleet().pool("teacher", [A]).backends[0] for _ in range(3))
    _fail(refused, UpstreamUnreachable("refused"))
    for _ in range(FAILURES_UNTIL_DOWN - 1):
        _fail(broken, UpstreamDisconnected("left"))
    assert (refused.up, broken.up) == (False, True)
    _fail(broken, UpstreamDisconnected("left"))
    for _ in range(10):
        _fail(answering, UpstreamFailed("500"))
    assert (broken.up, answering.up) == (False, True)
    assert answering.inflight == 0


def _fail(backend: Backend, error: GatewayError) -> None:
    with pytest.raises(type(error)), backend.carrying():
        raise error


def test_models_that_share_a_server_share_what_is_known() -> None:
    """A URL is one backend, however it is written and whoever uses it, and is forgotten when nobody does."""
    fleet = Fleet()
    first, second = fleet.pool("a", [A]), fleet.pool("b", [A + "/v1/"])
    assert first.backends[0] is second.backends[0]
    fleet.keep([B])
    assert fleet.backends == {}


async def test_health_follows_the_server(vllm: FakeVllm) -> None:
    """A backend that says it is dead, or is gone, is down; one that is back is up without any traffic."""
    fleet, client = Fleet(), UpstreamClient()
    backend = fleet.pool("teacher", [vllm.url]).backends[0]
    poller = HealthPoller(fleet, client)
    seen: list[bool] = []
    for vllm.healthy in (False, True):
        await poller.poll()
        seen.append(backend.up)
    vllm.stop()
    await poller.poll()
    await client.close()
    assert [*seen, backend.up] == [False, True, False]
