"""How health and load are known without any traffic."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from gateway.fleet.backends import Backend
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.health import HealthPoller
from gateway.fleet.load import Load
from gateway.fleet.pools import Fleet
from tests.fakes import FakeVllm


@pytest_asyncio.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    """An upstream client."""
    upstream = UpstreamClient()
    yield upstream
    await upstream.close()


def followed(client: UpstreamClient, url: str) -> tuple[Backend, HealthPoller]:
    """Return a backend and the poller that follows it."""
    fleet = Fleet()
    return fleet.pool("teacher", [url]).backends[0], HealthPoller(fleet, client)


async def test_health_follows_the_server(own_vllm: FakeVllm, client: UpstreamClient) -> None:
    """A backend that says it is dead, or is gone, is down; one that is back is up without any traffic."""
    backend, poller = followed(client, own_vllm.url)
    seen: list[bool] = []
    for own_vllm.healthy in (False, True):
        await poller.poll()
        seen.append(backend.up)
    own_vllm.stop()
    await poller.poll()
    assert [*seen, backend.up] == [False, True, False]


async def test_load_is_what_the_server_reports(own_vllm: FakeVllm, client: UpstreamClient) -> None:
    """One request a poll; what it reported is forgotten when it is gone."""
    own_vllm.load = (3, 2, 0.5)
    backend, poller = followed(client, own_vllm.url)
    await poller.poll()
    assert (backend.load, backend.others) == (Load(3, 2, 0.5, prefix_queries=100.0, prefix_hits=40.0), 5)
    assert own_vllm.probes == ["/metrics"]
    own_vllm.stop()
    await poller.poll()
    assert (backend.load, backend.others) == (None, 0)


async def test_a_server_without_metrics_is_asked_for_its_health(own_vllm: FakeVllm, client: UpstreamClient) -> None:
    """It is up and its load unknown; its metrics are asked for once."""
    own_vllm.load = None
    backend, poller = followed(client, own_vllm.url)
    for _ in range(3):
        await poller.poll()
    assert (backend.up, backend.load) == (True, None)
    assert own_vllm.probes == ["/metrics", "/health", "/health", "/health"]


async def test_metrics_alone_bring_nobody_back(own_vllm: FakeVllm, client: UpstreamClient) -> None:
    """They outlive vLLM's engine: who was down has to say that it is healthy."""
    own_vllm.load, own_vllm.healthy = (0, 0, 0.0), False
    backend, poller = followed(client, own_vllm.url)
    backend.seen(alive=False)
    await poller.poll()
    assert not backend.up
    own_vllm.healthy = True
    await poller.poll()
    assert backend.breaker.state == "recovering"
