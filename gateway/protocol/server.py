"""Uvicorn's server, told to stop in steps, so that every accepted request is answered, and told to reload by SIGHUP.

SIGTERM: `/ready` says 503 for the notice, in which load balancers look elsewhere and all is served, each answer with
the word that its connection ends; then nobody listens any more, and connections end as their answers are complete.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import uvicorn

from gateway.protocol.listener import BACKLOG, PartingState

QUIET_TURNS = 3  # of the loop, without a connection: nobody waits any more


class Patience(NamedTuple):
    """Seconds: how long `/ready` says 503 before nobody listens, and how long an answer under way may then take."""

    notice_s: float
    grace_s: float


class DrainingServer(uvicorn.Server):
    """Serves until told to stop; a second signal cuts the notice short. `on_drain` and `on_hangup` are told at once."""

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], Patience], on_hangup: Callable[[], None]) -> None:
        super().__init__(config)
        self.server_state: PartingState = PartingState()
        self._on_drain = on_drain
        self._on_hangup = on_hangup
        self._exit_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain."""
        if self._exit_at is not None:
            super().handle_exit(sig, frame)
            return
        patience = self._on_drain()
        self.server_state.parting = True
        self.config.timeout_graceful_shutdown = round(patience.grace_s)
        self._exit_at = time.monotonic() + patience.notice_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and from then on reload when asked to."""
        await super().startup(sockets)
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)

    async def on_tick(self, counter: int) -> bool:
        """End when the notice is over."""
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hear who has connected already, stop listening, and let all finish."""
        await self._accept_the_last()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await super().shutdown(sockets)

    async def _accept_the_last(self) -> None:
        """Let the loop take who has connected: it takes one in a turn, and may have been held up for many."""
        quiet = 0
        for _ in range(BACKLOG):
            before = self.server_state.accepted
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.server_state.accepted == before else 0
            if quiet == QUIET_TURNS:
                return
