"""Students of the registry: those to be served get a vLLM, and their row says where."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

from gateway.house.keeper import Keeper
from gateway.ledger import registry
from gateway.ledger.database import Database
from gateway.ledger.errors import LedgerError

PATIENCE_S = 60.0  # without the right to serve; a link that was cut has it again long before
_FAILURES = (sa.exc.SQLAlchemyError, LedgerError, OSError)
_logger = logging.getLogger(__name__)


class Students:
    """Brings what is served in line with the registry, once a second, where no other house does so.

    `base_names` are the models of the settings file: a student of such a name is not served, because a request could
    not say which of the two it means.
    """

    def __init__(
        self, database: Database, keep: Callable[[registry.Student], Keeper], base_names: frozenset[str]
    ) -> None:
        self._database = database
        self._keep = keep
        self._base_names = base_names
        self.keepers: dict[str, Keeper] = {}
        self._right = database.right_to_serve()
        self._held: float | None = None  # time.monotonic() when the right was last ours
        self._refused = False
        self._retiring: set[asyncio.Task[None]] = set()

    async def reconcile(self) -> None:
        """Start, stop and write addresses as the registry says now; a database that is away changes nothing."""
        try:
            if not await self._is_ours():
                return
            rows = await asyncio.to_thread(self._read)
            wanted = {row.reference: row for row in rows if row.state in registry.SERVED and self._may_serve(row)}
            for reference in self.keepers.keys() - wanted.keys():
                # The address goes first, so that nobody is sent to a server that is being stopped.
                await self._write({reference: None})
                self._retire(self.keepers.pop(reference))
            await self._write({row.reference: url for row in rows if (url := self._url(row.reference)) != row.url})
        except _FAILURES:
            _logger.exception("the registry can't be followed just now; students stay as they are")
            return
        for reference in wanted.keys() - self.keepers.keys():
            self.keepers[reference] = self._keep(wanted[reference])
            self.keepers[reference].start()

    async def stop(self) -> None:
        """Stop all of them and take their addresses out of the registry."""
        try:
            if await self._is_ours():
                await self._write(dict.fromkeys(self.keepers))
        except _FAILURES:
            _logger.exception("students' addresses could not be cleared; the next start does it")
        await asyncio.gather(*(keeper.stop() for keeper in self.keepers.values()), *self._retiring)
        self._right.close()

    async def _is_ours(self) -> bool:
        """Is the right to serve ours? Where it isn't, the addresses are another house's."""
        if await asyncio.to_thread(self._right.held):
            self._held, self._refused = time.monotonic(), False
            return True
        if not self._refused:
            _logger.warning("another house on this control plane serves the students; this one does when that ends")
        self._refused = True
        if self._held is not None and time.monotonic() - self._held > PATIENCE_S:
            while self.keepers:
                self._retire(self.keepers.popitem()[1])
        return False

    def _retire(self, keeper: Keeper) -> None:
        # In the background: a server takes seconds to stop, and the house goes on telling how the others do.
        task = asyncio.get_running_loop().create_task(keeper.stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _url(self, reference: str) -> str | None:
        # A silent server keeps its address: the gateway watches health itself, and a busy server is soon back.
        keeper = self.keepers.get(reference)
        return keeper.status.url if keeper is not None and keeper.status.state in ("ready", "silent") else None

    def _may_serve(self, student: registry.Student) -> bool:
        return student.name not in self._base_names

    def _read(self) -> list[registry.Student]:
        with self._database.read() as connection:
            return registry.every(connection)

    async def _write(self, urls: dict[str, str | None]) -> None:
        if urls:
            await asyncio.to_thread(self._write_now, urls)

    def _write_now(self, urls: dict[str, str | None]) -> None:
        with self._database.write() as connection:
            for reference, url in urls.items():
                registry.set_url(connection, reference, url)
