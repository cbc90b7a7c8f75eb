"""What the house keeps: Python processes of Spiritsafe, and models served by vLLM."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from gateway.fleet.supervisor import LOOPBACK, StartProblem, VllmServer, free_port, last_error, port_is_free
from gateway.house.process import Program
from gateway.ledger.house_status import Kind

SETTLED_S = 3.0  # a process without an address counts as ready when it has lived this long
ANSWER_WITHIN_S = 60.0
POLL_S = 0.25
STOP_MODEL_S = 5.0  # a model has nothing to save, and the gateway has drained before it is stopped
# A house killed a moment ago leaves a server that still gives its memory back before it frees the port.
PORT_PATIENCE_S = 5.0


class Service(Protocol):
    """Something that one process does."""

    @property
    def name(self) -> str:
        """Its name in status, logs and metrics."""

    @property
    def kind(self) -> Kind:
        """What sort of process it is."""

    @property
    def url(self) -> str | None:
        """Where it listens, if it does."""

    async def prepare(self) -> Program:
        """Return what to run; `StartProblem` when it can't be run now."""

    async def until_ready(self) -> None:
        """Return once it serves; `StartProblem` when it takes too long."""

    async def is_healthy(self) -> bool:
        """Whether it still serves."""

    def explain(self, code: int, output: str) -> str:
        """Say why it ended, in one paragraph."""


@dataclass(frozen=True)
class PythonService:
    """A process of Spiritsafe itself; `health` is the address that answers 200 once it serves."""

    name: str
    kind: Kind
    program: Program
    url: str | None = None
    health: str | None = None

    async def prepare(self) -> Program:
        """Return its program."""
        return self.program

    async def until_ready(self) -> None:
        """Wait for its health address to answer; a process without one only has to live for a moment."""
        if self.health is None:
            await asyncio.sleep(SETTLED_S)
            return
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while not await asyncio.to_thread(answers, self.health):
            if time.monotonic() > deadline:
                raise StartProblem(
                    f"{self.health} did not answer within {ANSWER_WITHIN_S:.0f} s: see {self.program.log}"
                )
            await asyncio.sleep(POLL_S)

    async def is_healthy(self) -> bool:
        """Its being alive is all that is asked: workers share one address, which says nothing of one of them."""
        return True

    def explain(self, code: int, output: str) -> str:
        """Give its status and the last error of its log."""
        how = f"was killed (signal {-code})" if code < 0 else f"ended with status {code}"
        found = last_error(output)
        return f"{how}{': ' + found if found else ''} (log: {self.program.log})"


@dataclass
class ModelService:
    """A model served by vLLM. With `any_port` a taken port is no problem: another free one is used."""

    server: VllmServer
    log: Path
    any_port: bool = False
    kind: Kind = field(default="model", init=False)

    @property
    def name(self) -> str:
        """The name that vLLM serves."""
        return self.server.name

    @property
    def url(self) -> str | None:
        """Where vLLM listens."""
        return self.server.url

    async def prepare(self) -> Program:
        """Check what can be checked before a start; wait a little for a port that is being freed."""
        if self.any_port and not port_is_free(LOOPBACK, self.server.port):
            self.server = replace(self.server, port=free_port())
        deadline = time.monotonic() + PORT_PATIENCE_S
        while not port_is_free(LOOPBACK, self.server.port) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        self.server.check()
        return Program(self.server.command(), self.server.environment(), self.log, self.server.base_dir, STOP_MODEL_S)

    async def until_ready(self) -> None:
        """Wait for `/health`, then warm it up."""
        timeout = self.server.settings.start_timeout_s
        deadline = time.monotonic() + timeout
        while not await asyncio.to_thread(self.server.is_healthy):
            if time.monotonic() > deadline:
                raise StartProblem(
                    f"was not ready within {timeout:.0f} s: see {self.log}, or raise vllm.start_timeout_s"
                )
            await asyncio.sleep(POLL_S)
        await asyncio.to_thread(self.server.warm_up)

    async def is_healthy(self) -> bool:
        """Ask vLLM's `/health`."""
        return await asyncio.to_thread(self.server.is_healthy)

    def explain(self, code: int, output: str) -> str:
        """Give the reason and the remedy."""
        return f"{self.server.explain(code, output)} (log: {self.log})"


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Return whether an address of this machine answers 200."""
    # A proxy that the environment names must not be asked about this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=5) as answer:
            return int(answer.status) == 200
    except (OSError, urllib.error.URLError):
        return False
