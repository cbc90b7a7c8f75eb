"""The fair queue of a full model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.queue import FairQueue, Flow, QueueFull

INTERACTIVE, BATCH = Flow("a"), Flow("a", "batch")


def full(capacity: int = 1, length: int = 100, wait_s: float = 10.0) -> FairQueue:
    """Return a queue whose places are all taken."""
    queue = FairQueue(capacity, length, wait_s)
    for _ in range(capacity):
        assert queue.enter_now()
    return queue


@asynccontextmanager
async def waiting(queue: FairQueue, *flows: Flow) -> AsyncIterator[list[Flow]]:
    """Let these wait in this order; the list gets them in the order of their turns."""
    turns: list[Flow] = []

    async def wait(flow: Flow) -> None:
        await queue.enter(flow, 1)
        turns.append(flow)

    tasks = [asyncio.create_task(wait(flow)) for flow in flows]
    await asyncio.sleep(0)
    yield turns
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def pass_turns(queue: FairQueue, count: int) -> None:
    """Let that many leave, one after the other."""
    for _ in range(count):
        queue.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_there_is_no_waiting_while_there_is_room() -> None:
    """As many as fit enter at once; the next one has to wait."""
    queue = FairQueue(2, 10, 1.0)
    assert queue.enter_now()
    assert queue.enter_now()
    assert not queue.enter_now()
    queue.leave()
    assert queue.enter_now()


async def test_nobody_overtakes_who_waits() -> None:
    """A place that becomes free is handed to a waiting request, not to one that comes just then."""
    queue = full()
    async with waiting(queue, INTERACTIVE) as turns:
        queue.leave()
        assert not queue.enter_now()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert turns == [INTERACTIVE]
        queue.leave()
        assert queue.enter_now()


async def test_accounts_take_turns_by_weight() -> None:
    """A flood of one account does not keep others waiting; one of weight three gets three times as much."""
    queue = full()
    small, large = Flow("small"), Flow("large", weight=3)
    async with waiting(queue, *[small] * 40, *[large] * 40) as turns:
        await pass_turns(queue, 40)
        assert 28 <= turns.count(large) <= 32
        assert large in turns[:2]


async def test_batch_gives_way_and_does_not_starve() -> None:
    """An account's batch requests get a tenth of what its interactive ones get while both wait."""
    queue = full()
    async with waiting(queue, *[BATCH] * 50, *[INTERACTIVE] * 50) as turns:
        await pass_turns(queue, 44)
        assert 3 <= turns.count(BATCH) <= 5


async def test_length_and_wait_are_bounded() -> None:
    """No place: refused at once, in that lane only; no turn in time: refused then, and the place is free again."""
    queue = full(length=1, wait_s=0.05)
    async with waiting(queue, INTERACTIVE):
        with pytest.raises(QueueFull) as caught:
            await queue.enter(INTERACTIVE, 1)
        assert not caught.value.waited
        assert 1.0 <= caught.value.retry_after_s <= 60.0
        with pytest.raises(QueueFull) as caught:
            await queue.enter(BATCH, 1)
        assert caught.value.waited
    assert (queue.waiting("interactive"), queue.waiting("batch")) == (0, 0)
    queue.leave()
    assert queue.enter_now()


async def test_a_turn_of_one_who_left_goes_to_the_next() -> None:
    """A client that leaves while it waits, even just as its turn comes, costs no place."""
    queue = full()
    first = asyncio.create_task(queue.enter(INTERACTIVE, 1))
    second = asyncio.create_task(queue.enter(INTERACTIVE, 1))
    await asyncio.sleep(0)
    queue.leave()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await second >= 0.0
    queue.leave()
    assert queue.enter_now()
    assert not queue.enter_now()


async def test_who_came_and_left_is_forgotten() -> None:
    """Also while nobody has a turn: a model that hangs must not fill the memory with those who gave up on it."""
    queue = full(length=10)
    async with waiting(queue, INTERACTIVE, INTERACTIVE) as turns:
        for _ in range(1000):
            task = asyncio.create_task(queue.enter(BATCH, 1))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert len(queue._heap) < 100
        await pass_turns(queue, 2)
        assert turns == [INTERACTIVE, INTERACTIVE]


@given(st.lists(st.sampled_from(["enter", "leave", "cancel"]), max_size=60), st.integers(1, 3))
def test_never_more_than_the_capacity_and_none_lost(steps: list[str], capacity: int) -> None:
    """Whatever comes and goes: at most `capacity` are in, and nobody waits while there is room."""
    _run(_play(steps, capacity))


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def _play(steps: list[str], capacity: int) -> None:
    queue = FairQueue(capacity, 100, 10.0)
    inside = 0
    tasks: list[asyncio.Task[float]] = []
    for step in steps:
        if step == "enter" and queue.enter_now():
            inside += 1
        elif step == "enter":
            tasks.append(asyncio.create_task(queue.enter(INTERACTIVE, 1)))
            await asyncio.sleep(0)
        elif step == "leave" and inside:
            queue.leave()
            inside -= 1
        elif step == "cancel" and tasks:
            tasks[-1].cancel()
        for _ in range(4):
            await asyncio.sleep(0)
        for task in [task for task in tasks if task.done()]:
            tasks.remove(task)
            inside += not task.cancelled()
        assert inside <= capacity
        assert not tasks or inside == capacity
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _adjusted(before: int, after: int, leaving: int) -> list[Flow]:
    queue = full(before)
    flows = [Flow(name) for name in "abcdef"]
    async with waiting(queue, *flows) as turns:
        queue.adjust(after, 100, 10.0)
        for _ in range(leaving):
            queue.leave()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return list(turns)


def test_bounds_change_while_some_wait() -> None:
    """More room goes to those who wait as soon as one leaves; with less nobody enters until it is free."""
    assert len(asyncio.run(_adjusted(1, 3, 1))) == 3
    assert len(asyncio.run(_adjusted(3, 1, 2))) == 0
    assert len(asyncio.run(_adjusted(3, 1, 3))) == 1


def test_new_room_is_for_those_who_wait() -> None:
    """Who comes when there is more room does not overtake who waited for it."""

    async def run() -> tuple[bool, int]:
        queue = full(1)
        async with waiting(queue, Flow("a")) as turns:
            queue.adjust(2, 100, 10.0)
            entered = queue.enter_now()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return entered, len(turns)

    assert asyncio.run(run()) == (False, 1)
