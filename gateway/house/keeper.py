"""Keeps one service running: starts it, watches it, and starts it again with growing pauses when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from gateway.fleet.supervisor import StartProblem
from gateway.house.process import Process, Watchdog
from gateway.house.services import Service
from gateway.ledger.house_status import ProcessStatus, State
from gateway.ledger.identifiers import now

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # who lived this long begins again with the first pause
PROBE_INTERVAL_S = 5.0
SILENCE_S = 120.0  # a server silent for this long is started again; a busy CPU can be silent for a while
_logger = logging.getLogger(__name__)


class Keeper:
    """One service and its process. `status` is what others see; `changed` is called at each change of it."""

    def __init__(self, service: Service, watchdog: Watchdog, changed: Callable[[ProcessStatus], None]) -> None:
        self.service = service
        self._watchdog = watchdog
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self.status = ProcessStatus(service.name, service.kind, "starting", now(), None, 0, service.url, "")

    def start(self) -> None:
        """Begin to keep it."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=self.service.name)

    async def stop(self) -> None:
        """End the process in good order, and don't start it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._become("stopped", None, None)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                error = await self._one_life()
            except Exception as problem:
                # A mistake of ours, or a machine out of something: the others stand, and this one is tried again.
                _logger.exception("a process could not be kept", extra={"name_of_process": self.service.name})
                error = f"could not be kept: {problem!r}; the house's log has more"
            if time.monotonic() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            self._become("waiting", None, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
            self.status = replace(self.status, restarts=self.status.restarts + 1)

    async def _one_life(self) -> str:
        """Start the process and return, when it has ended, why."""
        try:
            program = await self.service.prepare()
            process = await Process.start(program, self._watchdog)
        except (StartProblem, OSError) as problem:
            return str(problem)
        self.status = replace(self.status, log=str(program.log))
        self._become("starting", process.pid, self.status.error)
        ended = asyncio.ensure_future(process.wait())
        try:
            await self._attend(process, ended)
            return self.service.explain(await ended, process.output())
        except StartProblem as problem:
            return str(problem)
        finally:
            await process.stop()

    async def _attend(self, process: Process, ended: asyncio.Future[int]) -> None:
        """Return when the process has ended; `StartProblem` when it is not ready in time or falls silent."""
        ready = asyncio.ensure_future(self.service.until_ready())
        try:
            await asyncio.wait((ended, ready), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not ready.done():
                ready.cancel()
        if ready.done() and ready.exception() is not None:
            # A process that dies while it is asked something is seen to fail before it is seen to end.
            await asyncio.wait({ended}, timeout=1.0)
        if ended.done():
            # The cancelled or failed wait has nothing to add to why the process ended.
            await asyncio.wait({ready})
            return
        ready.result()
        self._become("ready", process.pid, None)
        await self._probe(process, ended)

    async def _probe(self, process: Process, ended: asyncio.Future[int]) -> None:
        answered = time.monotonic()
        while not ended.done():
            await asyncio.wait({ended}, timeout=PROBE_INTERVAL_S)
            if ended.done() or await self.service.is_healthy():
                answered = time.monotonic()
            elif time.monotonic() - answered > SILENCE_S:
                raise StartProblem(f"did not answer for {SILENCE_S:.0f} s and is ended; see {self.status.log}")
            state: State = "ready" if answered >= time.monotonic() - PROBE_INTERVAL_S else "silent"
            if not ended.done() and state != self.status.state:
                self._become(state, process.pid, None)

    def _become(self, state: State, pid: int | None, error: str | None) -> None:
        self.status = replace(self.status, state=state, since=now(), pid=pid, error=error, url=self.service.url)
        self._changed(self.status)
