"""Keeping a service: started again when it ends, with growing pauses, and the reason said."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.fleet import supervisor
from gateway.fleet.supervisor import VllmServer, free_port
from gateway.house import keeper as keeping
from gateway.house import services
from gateway.house.keeper import Keeper
from gateway.house.process import Program, Watchdog
from gateway.house.services import ModelService, PythonService, Service
from gateway.ledger.house_status import ProcessStatus
from gateway.settings import VllmSettings
from tests.gateway.house.stand_in_vllm import make_model, make_python
from tests.gateway.house.waiting import is_alive

pytestmark = pytest.mark.slow


class Watched:
    """A kept service and everything that was said about it."""

    def __init__(self, service: Service, watchdog: Watchdog) -> None:
        self.history: list[ProcessStatus] = []
        self.times: list[float] = []
        self.keeper = Keeper(service, watchdog, self._note)

    def _note(self, status: ProcessStatus) -> None:
        self.history.append(status)
        self.times.append(time.monotonic())

    async def until(self, look: Callable[[ProcessStatus], bool], seconds: float = 30) -> ProcessStatus:
        """Wait until a status that the house has seen satisfies `look`."""
        async with asyncio.timeout(seconds):
            while not (found := [status for status in self.history if look(status)]):
                await asyncio.sleep(0.02)
        return found[-1]


Watch = Callable[[str | Service], Watched]


@pytest.fixture
async def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watch]:
    """Return `watch(service)`: begin to keep it, or a Python program; pauses are a tenth of the real ones."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(keeping, name, getattr(keeping, name) / 10)
    monkeypatch.setattr(services, "SETTLED_S", 0.2)
    watchdog = Watchdog()
    begun: list[Watched] = []

    def begin(what: str | Service) -> Watched:
        if isinstance(what, str):
            program = Program((sys.executable, "-c", what), {}, tmp_path / "x.log", tmp_path)
            what = PythonService("x", "service", program)
        begun.append(Watched(what, watchdog))
        begun[-1].keeper.start()
        return begun[-1]

    yield begin
    for watched in begun:
        await watched.keeper.stop()
    watchdog.close()


async def test_a_killed_service_comes_back(watch: Watch) -> None:
    """kill -9 of a process is followed by a new one, counted as a restart."""
    watched = watch("import time; time.sleep(600)")
    first = await watched.until(lambda status: status.state == "ready")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    waiting = await watched.until(lambda status: status.state == "waiting")
    assert "was killed (signal 9)" in (waiting.error or "")
    second = await watched.until(lambda status: status.state == "ready" and status.pid != first.pid)
    assert (second.restarts, second.error) == (1, None)


async def test_pauses_grow(watch: Watch) -> None:
    """Who ends at once is tried again after pauses that double, so that a broken service does not eat the machine."""
    watched = watch("import sys; sys.exit('RuntimeError: no luck')")
    await watched.until(lambda status: status.state == "starting" and status.restarts == 3)
    waits = [moment for moment, status in zip(watched.times, watched.history, strict=True) if status.state == "waiting"]
    starts = [
        moment for moment, status in zip(watched.times, watched.history, strict=True) if status.state == "starting"
    ]
    pauses = [start - wait for wait, start in zip(waits, starts[1:], strict=False)]
    # A busy machine makes pauses longer, never shorter.
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)), pauses
    assert "ended with status 1: RuntimeError: no luck" in (watched.history[-1].error or "")


async def test_stopping_ends_the_process(watch: Watch) -> None:
    """A stopped service has no process left and is not started again."""
    watched = watch("import time; time.sleep(600)")
    ready = await watched.until(lambda status: status.state == "ready")
    await watched.keeper.stop()
    assert watched.keeper.status.state == "stopped"
    assert ready.pid is not None
    assert not is_alive(ready.pid)
    await asyncio.sleep(0.3)
    assert watched.history[-1].state == "stopped"


@pytest.fixture
def model(tmp_path: Path) -> ModelService:
    """A model that the stand-in serves."""
    make_model(tmp_path / "weights")
    settings = VllmSettings(python=str(make_python(tmp_path)), start_timeout_s=10)
    return ModelService(VllmServer("m", Path("weights"), free_port(), 2048, settings, tmp_path), tmp_path / "m.log")


async def test_a_silent_model_is_started_again(
    watch: Watch, model: ModelService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops answering is shown as silent, comes back by itself if it can, and is replaced if not."""
    monkeypatch.setattr(keeping, "PROBE_INTERVAL_S", 0.1)
    monkeypatch.setattr(keeping, "SILENCE_S", 2.0)
    monkeypatch.setattr(supervisor, "PROBE_TIMEOUT_S", 0.3)
    watched = watch(model)
    first = await watched.until(lambda status: status.state == "ready")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    await watched.until(lambda status: status.state == "silent")
    os.kill(first.pid, signal.SIGCONT)
    await watched.until(lambda status: status.state == "ready" and status.since > first.since)
    os.kill(first.pid, signal.SIGSTOP)
    waiting = await watched.until(lambda status: status.state == "waiting")
    assert "did not answer" in (waiting.error or "")
    await watched.until(lambda status: status.state == "ready" and status.pid != first.pid)


async def test_a_slow_start_ends(watch: Watch, model: ModelService, tmp_path: Path) -> None:
    """A server that is not ready in time is ended, and the setting that would give it more is named."""
    make_model(tmp_path / "weights", sleep=60)
    impatient = replace(model.server, settings=replace(model.server.settings, start_timeout_s=0.3))
    watched = watch(ModelService(impatient, model.log))
    waiting = await watched.until(lambda status: status.state == "waiting")
    assert "vllm.start_timeout_s" in (waiting.error or "")
    assert not is_alive(watched.history[0].pid or 0)


async def test_a_student_finds_another_port(watch: Watch, model: ModelService) -> None:
    """A student whose port was taken meanwhile is served on another one."""
    with socket.create_server(("127.0.0.1", model.server.port)):
        watched = watch(ModelService(model.server, model.log, any_port=True))
        ready = await watched.until(lambda status: status.state == "ready")
    assert ready.url != model.server.url
