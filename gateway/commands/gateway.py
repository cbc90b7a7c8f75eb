"""`spiritsafe gateway`: the public endpoint alone, one process per worker; what dies is started again."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import click

from gateway import logs, reload
from gateway.command import Context, standard_options
from gateway.house.process import LEASH
from gateway.ledger.database import open_database
from gateway.ledger.keys import ensure_secret
from gateway.protocol.listener import reserve
from gateway.settings import GatewaySettings, Settings, ensure_file

GRACE_S = 20.0  # more than a worker itself allows its answers under way
FIRST_BACKOFF_S, MOST_BACKOFF_S, STEADY_S = 0.5, 10.0, 10.0

logger = logging.getLogger(__name__)


@click.command()
@click.option("--host", default=None, help="Where to listen [gateway.host].")
@click.option("--port", type=int, default=None, help="The port; 0 takes a free one [gateway.port].")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [gateway.workers].")
@standard_options
def gateway(context: Context, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the public endpoint until Ctrl-C or SIGTERM; answers under way are finished."""
    logs.configure("gateway")
    own = context.settings.gateway
    own = dataclasses.replace(
        own,
        host=own.host if host is None else host,
        port=own.port if port is None else port,
        workers=own.workers if workers is None else workers,
    )
    if ensure_file(context.settings):
        context.say(f"wrote {context.settings.file} with the assumed settings")
    _prepare(context.settings)
    # A socket that is bound and does not listen keeps the address ours while workers come and go.
    with reserve(own.host, own.port) as reserved:
        own = dataclasses.replace(own, port=reserved.getsockname()[1])
        context.emit_one({"url": f"http://{own.host}:{own.port}", "workers": own.workers})
        sys.stdout.flush()
        WorkerProcesses(context.settings, own).run()


def _prepare(settings: Settings) -> None:
    """Make what workers only read: the control plane and the secret of the installation."""
    database = open_database(settings.database_url)
    try:
        with database.read() as connection:
            ensure_secret(connection, settings.data_dir)
    finally:
        database.close()


@dataclass
class _Slot:
    """One worker's place: its process, when that started, and how long to wait before starting it again."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    backoff_s: float = 0.0


class WorkerProcesses:
    """Keeps one process per slot until told to stop; the processes die with this one, even at `kill -9`."""

    def __init__(self, settings: Settings, own: GatewaySettings) -> None:
        arguments = ["--config", str(settings.file)] if settings.file is not None else []
        leash = [sys.executable, "-I", "-S", LEASH, "exec", str(os.getpid())]
        self._command = [*leash, sys.executable, "-m", "gateway.app", *arguments]
        chosen = {"HOST": own.host, "PORT": str(own.port), "WORKERS": str(own.workers)}
        self._environment = os.environ | {f"SPIRITSAFE_GATEWAY__{name}": value for name, value in chosen.items()}
        self._slots = [_Slot(f"w{number}") for number in range(own.workers)]
        self._grace_s = own.drain_notice_s + settings.longest_request_s + GRACE_S
        self._data_dir = settings.data_dir
        self._stopping = False

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT, then stop every worker and wait for it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGHUP, self._ask_to_reload)
        try:
            while not self._stopping:
                for slot in self._slots:
                    self._keep(slot)
                time.sleep(0.1)
        finally:
            self._stop()

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _ask_to_reload(self, _number: int, _frame: object) -> None:
        reload.ask(self._data_dir)

    def _keep(self, slot: _Slot) -> None:
        if slot.process is not None and slot.process.poll() is None:
            return
        lived = time.monotonic() - slot.started
        if slot.process is not None:
            logger.warning("worker ended", extra={"slot": slot.name, "status": slot.process.returncode})
            slot.process = None
            slot.backoff_s = FIRST_BACKOFF_S if lived > STEADY_S else min(MOST_BACKOFF_S, 2 * slot.backoff_s or 0.1)
        if lived >= slot.backoff_s:
            self._start(slot)

    def _start(self, slot: _Slot) -> None:
        slot.started = time.monotonic()
        slot.process = subprocess.Popen([*self._command, "--slot", slot.name], env=self._environment)

    def _stop(self) -> None:
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._grace_s
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
