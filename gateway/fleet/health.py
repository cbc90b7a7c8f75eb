"""Active health: every backend's `/health` about once a second, so that a recovered one is found without traffic."""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import GatewayError, UpstreamUnreachable
from gateway.fleet.backends import FAILURES_UNTIL_DOWN, Backend, Fleet
from gateway.fleet.connection import UpstreamClient

INTERVAL_S = 1.0
TIMEOUT_S = 5.0  # a server with all cores busy answers late, and is not dead

logger = logging.getLogger(__name__)


class HealthPoller:
    """Polls the fleet until cancelled. vLLM answers 200 while its engine lives and 503 when it is dead."""

    def __init__(self, fleet: Fleet, client: UpstreamClient, interval_s: float = INTERVAL_S) -> None:
        self._fleet = fleet
        self._client = client
        self._interval_s = interval_s
        self._silent: dict[str, int] = {}

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            try:
                await self.poll()
            except Exception:
                # Without it no backend that was down would ever be found again: it must outlive the unforeseen.
                logger.exception("backends could not be polled")
            await asyncio.sleep(self._interval_s)

    async def poll(self) -> None:
        """Poll every backend once, side by side."""
        await asyncio.gather(*(self._poll(backend) for backend in list(self._fleet.backends.values())))

    async def _poll(self, backend: Backend) -> None:
        before = backend.up
        try:
            status, _ = await self._client.get(f"{backend.url}/health", TIMEOUT_S)
            healthy = status == 200
            self._silent[backend.url] = 0
        except UpstreamUnreachable:
            healthy = False
        except GatewayError:
            healthy = self._still_believed(backend)
        if healthy and not before:
            backend.succeeded()
        elif not healthy:
            backend.up = False
        if backend.up != before:
            logger.warning("backend is %s", "up" if backend.up else "down", extra={"backend": backend.url})

    def _still_believed(self, backend: Backend) -> bool:
        self._silent[backend.url] = self._silent.get(backend.url, 0) + 1
        return backend.up and self._silent[backend.url] < FAILURES_UNTIL_DOWN
