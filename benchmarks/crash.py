"""`make bench-crash`: kill -9 of gateway, ingester and maintenance at points nobody chose, under load.

At the end every answer that a client read to its end is a row of the lake, once; so is every other request that a
worker finished; what was under way when a worker died is shown as interrupted; and every row is as it was written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.rig.accounting import rig
from benchmarks.rig.ours import prepare
from benchmarks.rig.servers import ROOT, free_port, upstream
from benchmarks.rig.texts import MODEL, request_body
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import stream_of
from gateway.ledger.verification import verify
from gateway.records import complete
from gateway.settings import Settings, load_settings

PATIENCE_S = 60.0
CLIENTS = 4


@dataclass
class Outcome:
    """What was killed how often, and what became of requests; `problems` is empty when none is lost or doubled."""

    kills: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    completed: int = 0
    recorded: int = 0
    interrupted: int = 0
    problems: list[str] = field(default_factory=list)


class Clients:
    """Ask without a pause, half of it streams, and keep the ids of the answers that came to their end."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._headers = f"{url}/v1/chat/completions", {"authorization": f"Bearer {key}"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(bool(i % 2),), daemon=True) for i in range(CLIENTS)]
        self.answered: list[str] = []

    def __enter__(self) -> Clients:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End with the answers under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, stream: bool) -> None:
        body = request_body(stream=stream)
        headers = self._headers | {"content-type": "application/json"}
        with httpx.Client(timeout=10.0, verify=False) as http:
            while not self._stop.wait(0.002):
                try:
                    answer = http.post(self._url, content=body, headers=headers)
                except httpx.HTTPError:  # Its worker was killed, or is not back yet.
                    time.sleep(0.02)
                    continue
                if answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n")):
                    self.answered.append(answer.headers["x-request-id"])


@dataclass
class Victim:
    """A process that is killed and started again; `at_work` says when a kill would hit it at work."""

    name: str
    command: list[str]
    log: Path
    at_work: Callable[[], Callable[[], bool]]
    process: subprocess.Popen[bytes] | None = None
    _is_at_work: Callable[[], bool] | None = None

    def start(self) -> None:
        """Start it."""
        self._is_at_work = self.at_work()
        with self.log.open("ab") as file:
            self.process = subprocess.Popen([sys.executable, "-m", *self.command], cwd=ROOT, stdout=file, stderr=file)

    def kill(self, chance: random.Random) -> None:
        """Wait until it is at work, and a while nobody chose; then kill it."""
        assert self.process is not None
        assert self._is_at_work is not None
        _until(self._is_at_work, f"{self.name} did not get to work: see {self.log}")
        time.sleep(chance.uniform(0.0, 0.5))
        self.end()

    def end(self) -> None:
        """Kill it now."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def crash(folder: Path, kills: int, seed: int, durability: str = "group") -> Outcome:
    """Run a house below the folder, kill its parts that many times, in turn and at random points, and count."""
    outcome, chance = Outcome(), random.Random(seed)
    with upstream(folder, first_ms=5.0, gap_ms=0.2) as upstream_url:
        settings, url, key = _house(folder, upstream_url, durability)
        with Clients(url, key) as clients, _running(settings, clients, folder) as victims:
            for number in range(kills):
                victim = victims[number % len(victims)]
                victim.kill(chance)
                victim.start()
                outcome.kills[victim.name] += 1
                print(f"{number + 1} of {kills}: {victim.name}, {len(clients.answered)} answers", file=sys.stderr)
        _count(settings, clients.answered, outcome)
    return outcome


def _house(folder: Path, upstream_url: str, durability: str) -> tuple[Settings, str, str]:
    port, file = free_port(), folder / "spiritsafe.toml"
    # Small segments and many commits, so that kills hit rotations, deletions and merges too.
    file.write_text(f"""
data_dir = "./data"
[[models]]
name = "{MODEL}"
role = "teacher"
backends = ["{upstream_url}"]
context_length = 4096
[gateway]
port = {port}
[spool]
durability = "{durability}"
segment_bytes = 200000
ingest_interval_s = 0.05
""")
    (key,) = prepare(folder / "data", 1)
    return load_settings(file), f"http://127.0.0.1:{port}", key


@contextmanager
def _running(settings: Settings, clients: Clients, folder: Path) -> Iterator[list[Victim]]:
    lake, config = Lake(settings.data_dir / "lake" / "traffic"), ["--config", str(settings.file)]
    maintenance_log = folder / "maintenance.log"

    def grows(figure: Callable[[], int]) -> Callable[[], Callable[[], bool]]:
        def begin() -> Callable[[], bool]:
            before = figure()
            return lambda: figure() > before

        return begin

    answers = grows(lambda: len(clients.answered))
    ingested = grows(lambda: lake.last_transaction(stream_of(settings.data_dir / "spool" / "w0") or "") or 0)
    rounds = grows(lambda: maintenance_log.stat().st_size if maintenance_log.exists() else 0)
    victims = [
        Victim("gateway", ["gateway.app", *config], folder / "gateway.log", answers),
        Victim("ingester", ["gateway.cli", "ingester", "run", *config], folder / "ingester.log", ingested),
        Victim("maintenance", ["benchmarks.rig.maintainer", str(settings.data_dir)], maintenance_log, rounds),
    ]
    try:
        for victim in victims:
            victim.start()
        yield victims
    finally:
        for victim in victims:
            victim.end()


def _count(settings: Settings, answered: list[str], outcome: Outcome) -> None:
    ingester = Ingester(settings, complete)
    ingester.run_once()
    ingester.close()
    rows = Lake(settings.data_dir / "lake" / "traffic").read(["id", "status"]).to_pylist()
    finished = {row["id"] for row in rows if row["status"] == 200}
    lost = sorted(set(answered) - finished)
    doubled = sorted(name for name, count in Counter(row["id"] for row in rows).items() if count > 1)
    outcome.answered = len(answered)
    if lost:
        outcome.problems.append(f"{len(lost)} answered requests are not recorded, such as {lost[0]}")
    if doubled:
        outcome.problems.append(f"{len(doubled)} requests are recorded twice, such as {doubled[0]}")
    for report in verify(settings):
        outcome.completed += report.completed
        outcome.recorded += report.recorded
        outcome.interrupted += report.interrupted
        if not report.is_sound or report.waiting or report.under_way:
            outcome.problems.append(f"not every request is accounted for: {report}")
    hashes = rehash(settings)
    if not hashes.is_sound:
        outcome.problems.append(f"rows are not what was written: {hashes}")


def _until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint)
        time.sleep(0.01)


@click.command()
@click.option("--kills", default=300, show_default=True, help="How many, in turn of the three processes.")
@click.option("--seed", default=1, show_default=True)
@click.option("--durability", type=click.Choice(["group", "strict"]), default="group", show_default=True)
def main(kills: int, seed: int, durability: str) -> None:
    """Kill, count, and end with 1 when anything is lost or doubled."""
    with tempfile.TemporaryDirectory() as name:
        outcome = crash(Path(name), kills, seed, durability)
    document: dict[str, Any] = {"benchmark": "crash", "rig": rig(), "seed": seed, "durability": durability}
    print(json.dumps(document | vars(outcome)))
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
