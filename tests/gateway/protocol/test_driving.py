"""A driven coroutine goes on in the turn that brings what it waits for, and ends as a task would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.protocol.driving import Driver, Wakeup, apart


class Driven:
    """Drivers under way, and how each that is over ended."""

    def __init__(self) -> None:
        self.under_way: set[Driver] = set()
        self.ended: list[BaseException | None] = []

    def start(self, coroutine: Coroutine[Any, Any, None]) -> Driver:
        """Drive a coroutine."""
        driver = Driver(coroutine, self._over)
        self.under_way.add(driver)
        driver.start()
        return driver

    def _over(self, driver: Driver, error: BaseException | None) -> None:
        self.under_way.discard(driver)
        self.ended.append(error)


async def wait(on: Awaitable[object], said: list[str]) -> None:
    """Say what happens while something is waited for."""
    try:
        await on
        said.append("given")
    except asyncio.CancelledError:
        said.append("cancelled")
        raise


def run(test: Callable[[Driven, list[str]], Coroutine[Any, Any, None]]) -> tuple[list[BaseException | None], list[str]]:
    """Run a test on a loop of its own; return how the driven ended and what they said."""
    driven, said = Driven(), list[str]()
    asyncio.run(test(driven, said))
    assert driven.under_way == set()
    return driven.ended, said


def test_who_waits_goes_on_before_giving_returns() -> None:
    """There is no turn of the loop between, and a second time is nobody's."""

    async def test(driven: Driven, said: list[str]) -> None:
        wakeup = Wakeup()
        driven.start(wait(wakeup, said))
        assert said == []
        wakeup.give()
        assert said == ["given"]
        wakeup.give()

    assert run(test) == ([None], ["given"])


def test_a_task_may_wait_for_the_same() -> None:
    """Who isn't driven is woken as by a future."""

    async def test(driven: Driven, said: list[str]) -> None:
        wakeup = Wakeup()
        task = asyncio.create_task(wait(wakeup, said))
        await asyncio.sleep(0)
        wakeup.give()
        wakeup.give()
        await task

    assert run(test) == ([], ["given"])


def test_futures_and_sleeps_are_waited_for() -> None:
    """As well as what needs a task of its own."""

    async def test(driven: Driven, said: list[str]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        driven.start(wait(future, said))
        driven.start(wait(asyncio.sleep(0), said))
        driven.start(wait(apart(asyncio.wait_for(future, 5), lambda _: None), said))
        future.set_result(None)
        await asyncio.sleep(0.05)

    assert run(test) == ([None] * 3, ["given"] * 3)


def test_what_it_raises_is_told() -> None:
    """Whether it waited before or not."""

    async def test(driven: Driven, said: list[str]) -> None:
        async def fail(wakeup: Wakeup | None) -> None:
            if wakeup is not None:
                await wakeup
            raise ValueError("broken")

        wakeup = Wakeup()
        driven.start(fail(None))
        driven.start(fail(wakeup))
        wakeup.give()

    assert [type(error) for error in run(test)[0]] == [ValueError, ValueError]


def test_many_can_be_cancelled_while_they_are_gone_through() -> None:
    """A server at its end does so; one that is given what it waits for in the same turn ends well."""

    async def test(driven: Driven, said: list[str]) -> None:
        wakeups = [Wakeup() for _ in range(5)]
        for wakeup in wakeups:
            driven.start(wait(wakeup, said))
        for driver in driven.under_way:
            driver.cancel("it is over")
        wakeups[0].give()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    ended, said = run(test)
    assert sorted(said) == ["cancelled"] * 4 + ["given"]
    assert [type(error) for error in ended] == [type(None)] + [asyncio.CancelledError] * 4


def test_cancelling_reaches_the_next_wait_and_the_task_apart() -> None:
    """Also where it is cancelled while it runs; once it has ended nothing happens."""

    async def test(driven: Driven, said: list[str]) -> None:
        async def cancel_oneself() -> None:
            await asyncio.sleep(0)
            for driver in driven.under_way:
                driver.cancel()
            await wait(apart(wait(Wakeup(), said), print), said)

        driver = driven.start(cancel_oneself())
        await asyncio.sleep(0.05)
        driver.cancel()
        await asyncio.sleep(0)

    ended, said = run(test)
    assert said[0] == "cancelled"
    assert [type(error) for error in ended] == [asyncio.CancelledError]


def test_a_result_that_comes_as_its_waiter_is_cancelled_is_let_go_of() -> None:
    """In one turn of the loop: it was made, and nobody will ever see it."""

    async def test(driven: Driven, said: list[str]) -> None:
        made: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def make() -> str:
            return await made

        work = apart(make(), said.append)
        driver = driven.start(wait(work, said))
        await asyncio.sleep(0)
        made.set_result("let go of")
        driver.cancel()
        await asyncio.sleep(0.01)

    ended, said = run(test)
    assert said == ["let go of", "cancelled"]
    assert [type(error) for error in ended] == [asyncio.CancelledError]


def test_a_failure_apart_is_raised_and_nothing_let_go_of() -> None:
    """There is no result then."""

    async def test(driven: Driven, said: list[str]) -> None:
        async def fail() -> str:
            await asyncio.sleep(0)
            raise ValueError

        work = apart(fail(), said.append)
        driven.start(wait(work, said))
        await asyncio.sleep(0.01)

    ended, said = run(test)
    assert said == []
    assert [type(error) for error in ended] == [ValueError]
