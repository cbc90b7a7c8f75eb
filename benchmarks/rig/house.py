"""A whole house as people run it (`spiritsafe up`: workers, ingester, operator, detector) before scripted upstreams."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.rig.ours import prepare
from benchmarks.rig.reconciliation import Row
from benchmarks.rig.servers import ROOT, free_port
from benchmarks.rig.texts import MODEL
from gateway import reload
from gateway.ledger import house_status
from gateway.ledger.lake import Lake

PACE = ("--first-ms", "150", "--gap-ms", "20", "--whole-ms", "600")
WORKERS = 2
UPSTREAMS = 3
PING_S = 2.0
START_S, STOP_S, SETTLE_S, POLL_S = 90.0, 90.0, 120.0, 0.1
BROKEN = 'context_length = "long"\n'


class HouseProblem(Exception):
    """The house did not do in time what it must; the message says what."""


@dataclass
class House:
    """The house of a folder. `key` is of an account that meets every limit there is, none of them low."""

    folder: Path
    port: int = field(default_factory=free_port)
    ports: tuple[int, ...] = field(default_factory=lambda: tuple(free_port() for _ in range(UPSTREAMS)))
    key: str = ""
    up: subprocess.Popen[bytes] | None = None
    upstreams: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._operator_port = free_port()
        self.write_settings()
        self.key = prepare(self.data_dir, 1)[0]

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "spiritsafe.toml"

    @property
    def data_dir(self) -> Path:
        """The one folder that the house writes to."""
        return self.folder / "data"

    def write_settings(self, ping_s: float = PING_S, *, broken: bool = False) -> None:
        """Write the settings file. A broken one would refuse every request if any of it were taken over."""
        backends = ", ".join(f'"http://127.0.0.1:{port}"' for port in self.ports)
        text = f"""
data_dir = "data"
[gateway]
port = {self.port}
workers = {WORKERS}
ping_interval_s = {ping_s}
first_token_timeout_s = 8.0
total_timeout_s = 30.0
{"max_body_bytes = 16" if broken else ""}
[operator]
port = {self._operator_port}
[[models]]
name = "{MODEL}"
role = "teacher"
backends = [{backends}]
input_price = 1.00
output_price = 3.00
{BROKEN if broken else "context_length = 4096"}
"""
        temporary = self.config.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self.config)

    def start(self) -> None:
        """Start upstreams and house, and wait until every worker serves."""
        for port in self.ports:
            self.start_upstream(port)
        command = [sys.executable, "-m", "gateway.cli", "up", "--config", str(self.config)]
        with (self.folder / "up.log").open("wb") as log:
            self.up = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        self.wait(lambda: len(self.workers()) == WORKERS, START_S, "the workers did not start")
        self.wait(lambda: self.pid_of("ingester"), START_S, "the ingester did not start")

    def stop(self) -> None:
        """Stop the house in good order, then the upstreams."""
        if self.up is not None:
            self.up.terminate()
            try:
                self.up.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.up.kill()
                self.up.wait()
        for process in self.upstreams.values():
            process.kill()
            process.wait()

    def start_upstream(self, port: int) -> None:
        """Start an upstream on its port."""
        command = [sys.executable, "-m", "benchmarks.rig.upstream", "--port", str(port), *PACE]
        with (self.folder / "upstreams.log").open("ab") as log:
            self.upstreams[port] = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)

    def kill_upstream(self, port: int) -> None:
        """Kill an upstream."""
        self.upstreams[port].kill()
        self.upstreams[port].wait()

    def workers(self) -> dict[str, reload.Report]:
        """Return what the living workers say of themselves, by slot."""
        return {report.slot: report for report in reload.reports(self.data_dir)}

    def processes(self) -> dict[str, int]:
        """Return the pids of the house's processes by name."""
        status = house_status.read(self.data_dir)
        rows = status.processes if status is not None and self.up and status.pid == self.up.pid else ()
        return {row.name: row.pid for row in rows if row.pid is not None}

    def pid_of(self, name: str) -> int | None:
        """Return the pid of a process of the house, or None while there is none."""
        return self.processes().get(name)

    def command(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Run a `spiritsafe` command; returns its status, the objects that it printed, and its words."""
        command = [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line], done.stderr

    def connections_of(self, pid: int) -> frozenset[int]:
        """Return the clients' ports whose connections a process holds, or that nobody has accepted yet."""
        held = {"0"}
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                held.update(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
            except FileNotFoundError:
                continue  # closed since it was listed
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        ours = f"0100007F:{self.port:04X}"
        return frozenset(int(row[2].partition(":")[2], 16) for row in rows if row[1] == ours and row[9] in held)

    def settled(self) -> list[dict[str, Any]]:
        """Wait until nothing is under way and the lake has all of the spool; returns what `traffic verify` says."""

        def verified() -> list[dict[str, Any]]:
            status, rows, _ = self.command("traffic", "verify")
            done = all(row["waiting"] == row["under_way"] == 0 for row in rows)
            return rows if rows and (status or done) else []

        found: list[dict[str, Any]] = self.wait(verified, SETTLE_S, "the lake does not have all of the spool")
        return found

    def records(self) -> Iterator[Row]:
        """Yield all records of the lake, as far as a client can compare them."""
        table = Lake(self.data_dir / "lake" / "traffic").read(["time", "status", "error", "usage", "extra"])
        for batch in table.to_batches(max_chunksize=10_000):
            seconds = pc.cast(batch["time"], "int64").to_pylist()
            columns = (batch[name].to_pylist() for name in ("status", "error", "usage", "extra"))
            for time_ms, status, error, usage, extra in zip(seconds, *columns, strict=True):
                name = (json.loads(extra) if extra else {}).get("request_id", "")
                tokens = usage and (usage["input_tokens"], usage["output_tokens"], usage["source"])
                yield Row(name, time_ms / 1000, status, error or "", tokens)

    def wait(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Poll until a condition is truthy, and return its value; `HouseProblem` when it takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.up is not None and self.up.poll() is not None:
                raise HouseProblem(f"the house ended with status {self.up.returncode}: see {self.folder}/up.log")
            if value := condition():
                return value
            time.sleep(POLL_S)
        raise HouseProblem(f"{what} within {seconds:.0f} s: see {self.data_dir}/logs")


@contextmanager
def running(folder: Path) -> Iterator[House]:
    """Run a house inside the block."""
    house = House(folder)
    try:
        house.start()
        yield house
    finally:
        house.stop()


def is_alive(pid: int) -> bool:
    """Whether a process is there. A zombie is: threads that have not ended yet may hold its sockets."""
    return Path(f"/proc/{pid}").exists()


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal; who has ended by itself needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
