"""The house: takes the lock on `data_dir`, keeps every process, tells how they do, and stops them in good order."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import reload
from gateway.fleet.supervisor import port_is_free
from gateway.house.keeper import Keeper
from gateway.house.metrics import HouseMetrics
from gateway.house.narrator import Narrator
from gateway.house.plan import Plan
from gateway.house.process import Watchdog
from gateway.house.services import PORT_PATIENCE_S, Service
from gateway.house.students import Students
from gateway.ledger import house_status, metric_files, registry
from gateway.ledger.database import Database, open_database
from gateway.ledger.house_status import HouseStatus, Kind, ProcessStatus
from gateway.ledger.identifiers import now
from gateway.ledger.keys import ensure_secret
from gateway.protocol.listener import reserve
from gateway.settings import Settings

TICK_S = 1.0
# The gateway drains while the models still answer; the ingester then brings home what was recorded; the models go last.
STOP_ORDER: tuple[tuple[Kind, ...], ...] = (("gateway",), ("ingester",), ("service", "operator"), ("model",))
_logger = logging.getLogger(__name__)


class HouseError(Exception):
    """The house can't be started; the message says why and what to do."""


class House:
    """Keeps the processes of one `data_dir` until it is told to stop."""

    def __init__(self, settings: Settings, narrator: Narrator) -> None:
        self._settings = settings
        self._narrator = narrator
        self._plan = Plan(settings)
        self._keepers: list[Keeper] = []
        self._metrics = HouseMetrics()

    def run(self) -> None:
        """Take the lock, keep the house until SIGINT or SIGTERM, leaving nothing behind; `HouseError` if it can't."""
        with locked(self._settings.data_dir):
            database = open_database(self._settings.database_url)
            try:
                self._check(database)
                # The workers only read the secret. A socket that is bound and does not listen keeps the endpoint's
                # address ours while workers come and go.
                with database.read() as connection:
                    ensure_secret(connection, self._settings.data_dir)
                with reserve(self._settings.gateway.host, self._plan.gateway_port):
                    asyncio.run(self._keep(database))
            finally:
                database.close()

    def _check(self, database: Database) -> None:
        base = {model.name for model in self._settings.models}
        with database.read() as connection:
            both = sorted(base & {student.name for student in registry.every(connection)})
        if both:
            raise HouseError(
                f"{both[0]!r} is the name of a model in {self._settings.file} and of a student in the registry, so a "
                "request could mean either: rename the model in the file"
            )
        for section, host, port in (
            ("gateway", self._settings.gateway.host, self._plan.gateway_port),
            ("operator", self._settings.operator.host, self._plan.operator_port),
        ):
            if not _becomes_free(host, port):
                raise HouseError(
                    f"port {port} of {host} is taken by another program: end it, or set {section}.port to another"
                )

    async def _keep(self, database: Database) -> None:
        stop = self._listen()
        watchdog = Watchdog()
        students = Students(
            database,
            lambda student: Keeper(self._plan.student(student), watchdog, self._changed),
            frozenset(model.name for model in self._settings.models),
        )
        # Before anything is started: addresses that a killed house left behind lead nowhere.
        await students.reconcile()
        self._start([*self._plan.models(), *self._plan.services()], watchdog)
        self._narrator.opening(self._plan.gateway_url, self._plan.operator_url)
        try:
            while not stop.is_set():
                await students.reconcile()
                self._publish(students)
                try:
                    await asyncio.wait_for(stop.wait(), TICK_S)
                except TimeoutError:
                    continue
        finally:
            await self._stop(students)
            watchdog.close()

    def _start(self, services: Iterable[Service], watchdog: Watchdog) -> None:
        for service in services:
            keeper = Keeper(service, watchdog, self._changed)
            self._keepers.append(keeper)
            keeper.start()

    async def _stop(self, students: Students) -> None:
        self._narrator.closing()
        for kinds in STOP_ORDER:
            chosen = [keeper for keeper in self._keepers if keeper.service.kind in kinds]
            await asyncio.gather(*(keeper.stop() for keeper in chosen))
            if "model" in kinds:
                await students.stop()
        self._publish(students)

    def _listen(self) -> asyncio.Event:
        stop = asyncio.Event()

        def interrupted() -> None:
            if stop.is_set():
                # Asked twice: leave at once. The kernel and the watchdog end the children; the next start copes.
                os._exit(130)
            stop.set()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload.ask, self._settings.data_dir)
        return stop

    def _changed(self, status: ProcessStatus) -> None:
        self._narrator.changed(status)

    def _publish(self, students: Students) -> None:
        processes = [keeper.status for keeper in (*self._keepers, *students.keepers.values())]
        self._metrics.update(processes)
        try:
            house_status.write(self._settings.data_dir, HouseStatus(now(), os.getpid(), tuple(processes)))
            metric_files.publish(self._settings.data_dir / "metrics", "house", self._metrics.registry)
        except OSError:
            # A full disk must not end the house; what it could not write it writes at the next tick.
            _logger.exception("the house's status could not be written")


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the house's lock on a data folder; `HouseError` when another house has it. A killed house lets go."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "house.lock").open("a+")
    except OSError as error:
        raise HouseError(f"{data_dir} can't be written ({error.strerror}): choose another data_dir") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HouseError(
                f"a house (process {file.read().strip() or 'unknown'}) runs on {data_dir} already: stop it, or "
                "give this one another data_dir in spiritsafe.toml"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _becomes_free(host: str, port: int) -> bool:
    """Wait a little for a port: a house killed a moment ago leaves servers that are just ending."""
    deadline = time.monotonic() + PORT_PATIENCE_S
    while not port_is_free(host, port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
