"""Active health: every backend's `/metrics` about once a second, so that load is known and a recovered one is found.

No generation is made for it. A server without `/metrics` is asked for `/health`; so is one whose breaker is not closed,
because vLLM's metrics outlive its engine for a moment and its health does not.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.errors import GatewayError, UpstreamUnreachable
from gateway.fleet.backends import Backend
from gateway.fleet.connection import UpstreamClient
from gateway.fleet.load import parse_load
from gateway.fleet.pools import Fleet

INTERVAL_S = 1.0
TIMEOUT_S = 5.0  # a server with all cores busy answers late, and is not dead
SILENT_POLLS_UNTIL_DEAD = 3
LONGEST_PAGE = 2 * 1024 * 1024  # bytes of /metrics; vLLM's are some 60 KB

logger = logging.getLogger(__name__)


class HealthPoller:
    """Polls the fleet until cancelled. vLLM's `/health` is 200 while its engine lives and 503 when it is dead."""

    def __init__(self, fleet: Fleet, client: UpstreamClient, interval_s: float = INTERVAL_S) -> None:
        self._fleet = fleet
        self._client = client
        self._interval_s = interval_s
        self._silent: dict[str, int] = {}
        self._without_metrics: set[str] = set()

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
        backends = dict(self._fleet.backends)
        self._silent = {url: count for url, count in self._silent.items() if url in backends}
        self._without_metrics &= backends.keys()
        await asyncio.gather(*map(self._poll, backends.values()))

    async def _poll(self, backend: Backend) -> None:
        before = backend.up
        try:
            alive = await self._ask(backend)
            self._silent[backend.url] = 0
        except UpstreamUnreachable:
            alive = False
        except GatewayError:
            self._silent[backend.url] = self._silent.get(backend.url, 0) + 1
            if self._silent[backend.url] < SILENT_POLLS_UNTIL_DEAD:
                return  # it is believed a little longer
            alive = False
        if not alive:
            backend.report(None)
            self._without_metrics.discard(backend.url)  # who comes back may be another program
        backend.seen(alive=alive)
        if backend.up != before:
            logger.warning("backend is %s", "up" if backend.up else "down", extra={"backend": backend.url})

    async def _ask(self, backend: Backend) -> bool:
        """Note its load and return whether it lives. What answers with anything but 5xx does: not all are vLLM."""
        if backend.url not in self._without_metrics:
            status, page = await self._client.get(f"{backend.url}/metrics", TIMEOUT_S, LONGEST_PAGE)
            load = parse_load(page) if status == 200 else None
            backend.report(load)
            if load is not None and backend.breaker.state == "closed":
                return True
            if load is None and status < 500:
                self._without_metrics.add(backend.url)
        status, _ = await self._client.get(f"{backend.url}/health", TIMEOUT_S, LONGEST_PAGE)
        return status < 500
