"""Keeping a service: started again when it ends, with growing pauses, and the reason said."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.house import keeper as keeping
from gateway.house import services
from gateway.house.keeper import Keeper
from gateway.house.process import Program, Watchdog
from gateway.house.services import PythonService
from gateway.ledger.house_status import ProcessStatus
from tests.gateway.house.waiting import is_alive


class Watched:
    """A kept Python program and everything that was said about it."""

    def __init__(self, tmp_path: Path, code: str, watchdog: Watchdog) -> None:
        program = Program((sys.executable, "-c", code), {}, tmp_path / "x.log", tmp_path)
        self.history: list[ProcessStatus] = []
        self.times: list[float] = []
        self.keeper = Keeper(PythonService("x", "service", program), watchdog, self._note)

    def _note(self, status: ProcessStatus) -> None:
        self.history.append(status)
        self.times.append(time.monotonic())

    async def until(self, look: Callable[[ProcessStatus], bool], seconds: float = 10) -> ProcessStatus:
        """Wait until a status that the house has seen satisfies `look`."""
        async with asyncio.timeout(seconds):
            while not (found := [status for status in self.history if look(status)]):
                await asyncio.sleep(0.02)
        return found[-1]


@pytest.fixture
async def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], Watched]]:
    """Return `watch(code)`: begin to keep a program; pauses are a tenth of the real ones."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(keeping, name, getattr(keeping, name) / 10)
    monkeypatch.setattr(services, "SETTLED_S", 0.2)
    watchdog = Watchdog()
    begun: list[Watched] = []

    def begin(code: str) -> Watched:
        begun.append(Watched(tmp_path, code, watchdog))
        begun[-1].keeper.start()
        return begun[-1]

    yield begin
    for watched in begun:
        await watched.keeper.stop()
    watchdog.close()


async def test_a_killed_service_comes_back(watch: Callable[[str], Watched]) -> None:
    """kill -9 of a process is followed by a new one, counted as a restart."""
    watched = watch("import time; time.sleep(600)")
    first = await watched.until(lambda status: status.state == "ready")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    waiting = await watched.until(lambda status: status.state == "waiting")
    assert "was killed (signal 9)" in (waiting.error or "")
    second = await watched.until(lambda status: status.state == "ready" and status.pid != first.pid)
    assert (second.restarts, second.error) == (1, None)


async def test_pauses_grow(watch: Callable[[str], Watched]) -> None:
    """Who ends at once is tried again after pauses that double, so that a broken service does not eat the machine."""
    watched = watch("import sys; sys.exit('RuntimeError: no luck')")
    await watched.until(lambda status: status.state == "starting" and status.restarts == 3)
    waits = [moment for moment, status in zip(watched.times, watched.history, strict=True) if status.state == "waiting"]
    starts = [
        moment for moment, status in zip(watched.times, watched.history, strict=True) if status.state == "starting"
    ]
    pauses = [start - wait for wait, start in zip(waits, starts[1:], strict=False)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4], rel=0.4)
    assert "ended with status 1: RuntimeError: no luck" in (watched.history[-1].error or "")


async def test_stopping_ends_the_process(watch: Callable[[str], Watched]) -> None:
    """A stopped service has no process left and is not started again."""
    watched = watch("import time; time.sleep(600)")
    ready = await watched.until(lambda status: status.state == "ready")
    await watched.keeper.stop()
    assert watched.keeper.status.state == "stopped"
    assert ready.pid is not None
    assert not is_alive(ready.pid)
    await asyncio.sleep(0.3)
    assert watched.history[-1].state == "stopped"
