"""Coroutines without tasks: one goes on in the very turn of the event loop that brings what it waits for.

A task costs a request several turns of the loop and as many calls of the system: it is started, woken and ended by
call-backs that wait for their turn. A `Driver` starts its coroutine where it is made and resumes it inside the read
that completes what it waits for. `docs/decisions/0004` has what that bought.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Local(threading.local):
    """Whose coroutine is running in this thread."""

    driver: Driver | None = None


_running = _Local()


class Wakeup:
    """Something to wait for once, by a driven coroutine or by any other."""

    __slots__ = ("_driver", "_future")

    def __init__(self) -> None:
        self._driver: Driver | None = None
        self._future: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until it is given."""
        self._driver = _running.driver
        if self._driver is not None:
            yield self
        else:
            self._future = asyncio.get_running_loop().create_future()
            yield from self._future

    def give(self) -> None:
        """Resume whoever waits: a driven coroutine runs before this returns."""
        driver, future = self._driver, self._future
        if driver is not None:
            driver.resume(self)
        elif future is not None and not future.done():
            future.set_result(None)


class Driver:
    """Runs a coroutine; `on_end` gets what ended it: None, its exception, or a `CancelledError`.

    What needs a task of its own, such as `asyncio.timeout`, is awaited through `apart`.
    """

    __slots__ = ("_awaited", "_cancelled", "_coroutine", "_on_end")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], on_end: Callable[[Driver, BaseException | None], None]
    ) -> None:
        self._coroutine = coroutine
        self._on_end = on_end
        self._awaited: object = None
        self._cancelled = False

    def start(self) -> None:
        """Run until the first wait."""
        self._step(None)

    def resume(self, awaited: object) -> None:
        """Go on, if this is what the coroutine waits for now."""
        if awaited is self._awaited and awaited is not None:
            self._step(None)

    def cancel(self, msg: str | None = None) -> None:
        """Raise `CancelledError` where the coroutine waits in the next turn of the loop, as a task's `cancel` does.

        Not at once: who cancels many must not find them ended, and gone from its list, while it goes through them.
        """
        self._cancelled = True
        asyncio.get_running_loop().call_soon(self._interrupt, msg)

    def _step(self, error: BaseException | None) -> None:
        before, _running.driver = _running.driver, self
        self._awaited = None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._on_end(self, None)
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 — whoever started it is told
            self._on_end(self, failure)
        else:
            self._wait_for(awaited)
        finally:
            _running.driver = before

    def _wait_for(self, awaited: Any) -> None:
        if awaited is None:  # asyncio.sleep(0)
            self._awaited = awaited = object()
            asyncio.get_running_loop().call_soon(self.resume, awaited)
        else:
            self._awaited = awaited
            if not isinstance(awaited, Wakeup):
                awaited._asyncio_future_blocking = False  # as a task does: it was awaited, not just yielded
                awaited.add_done_callback(self.resume)
        if self._cancelled:
            self._interrupt()

    def _interrupt(self, msg: str | None = None) -> None:
        if self._cancelled and self._awaited is not None:
            self._cancelled = False
            self._step(asyncio.CancelledError(msg))


async def apart(work: Coroutine[Any, Any, Result], unwanted: Callable[[Result], object]) -> Result:
    """Run a coroutine in a task of its own; it is cancelled with whoever waits for it.

    `unwanted` lets go of a result that came in the very turn of the loop in which whoever waited was cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await task
    except BaseException:
        if not task.cancel() and not task.cancelled() and task.exception() is None:
            unwanted(task.result())
        raise
