"""Spiritsafe as it is measured: everything switched on, no limit low, and the ingester as the house runs it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig.servers import Contestant, free_port, started
from benchmarks.rig.texts import MODEL
from gateway.ledger import accounts, keys, limits, metric_files
from gateway.ledger.database import open_database

# None of them low: what is measured is the keeping of limits, not their refusals.
EVERY_LIMIT = {
    "rpm": 10**9,
    "tpm": 10**9,
    "parallel": 10**6,
    "usd_day": 10**15,
    "usd_month": 10**15,
    "max_output": 4096,
}
LIMITED: tuple[tuple[limits.Subject, str], ...] = (("account", "bench"), ("model", MODEL))
PUBLISH_S = 1.0  # how often gateway and ingester publish their metrics
INGEST_S = 900.0  # the longest wait for a lake that is behind


@dataclass
class Spiritsafe(Contestant):
    """Our gateway, and the folder in which it lives."""

    home: Path = Path()

    @property
    def worker_pids(self) -> list[int]:
        """The workers without the process that keeps them, whose memory never changes."""
        return self.pids[1:]

    @property
    def keys_file(self) -> Path:
        """Every key, one a line."""
        return self.home / "keys"


@contextmanager
def spiritsafe(folder: Path, upstream_url: str, workers: int = 1, key_count: int = 1) -> Iterator[Spiritsafe]:
    """Run our gateway with keys, every limit, the full record and metrics."""
    house = folder / f"spiritsafe-{workers}-{key_count}"
    house.mkdir()
    port = free_port()
    (house / "spiritsafe.toml").write_text(
        f"""
data_dir = "./data"
[[models]]
name = "{MODEL}"
role = "teacher"
backends = ["{upstream_url}"]
input_price = 1.00
output_price = 3.00
context_length = 4096
[gateway]
port = {port}
workers = {workers}
"""
    )
    made = prepare(house / "data", key_count)
    features = "keys, enforcement, limits, budget, routing, full record in the spool, metrics"
    with started(_command(house, "gateway"), house / "gateway.log") as process:
        ours = Spiritsafe(
            "spiritsafe" if workers == 1 else f"spiritsafe ({workers} workers)",
            f"http://127.0.0.1:{port}",
            features,
            process,
            {"Authorization": f"Bearer {made[0]}"},
            house,
        )
        ours.keys_file.write_text("\n".join(made))
        yield ours


def prepare(data_dir: Path, key_count: int) -> list[str]:
    """Make an account whose requests meet every limit there is, none of them low, and return its keys."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'control.sqlite'}")
    made = []
    with database.write() as connection:
        accounts.create(connection, accounts.new("bench"), "benchmark")
        pepper = keys.ensure_secret(connection, data_dir)
        for subject, name in LIMITED:
            limits.assign(connection, subject, name, EVERY_LIMIT, "benchmark", [MODEL])
        for _ in range(key_count):
            row, key = keys.create(connection, pepper, "bench", "benchmark")
            limits.assign(connection, "key", row.id, EVERY_LIMIT, "benchmark", [MODEL])
            made.append(key)
    database.close()
    return made


@contextmanager
def ingester(ours: Spiritsafe) -> Iterator[subprocess.Popen[bytes]]:
    """Bring the records into the lake inside the block, as the house does."""
    with started(_command(ours.home, "ingester", "run"), ours.home / "ingester.log") as process:
        yield process


def await_ingested(ours: Spiritsafe) -> None:
    """Wait until the lake has the record of every request so far; `RuntimeError` when it doesn't come to that."""
    time.sleep(2 * PUBLISH_S)
    deadline = time.monotonic() + INGEST_S
    while _total(ours, "spiritsafe_ingested_rows") < _total(ours, "spiritsafe_requests"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the lake is still behind after {INGEST_S:.0f} s: see {ours.home / 'ingester.log'}")
        time.sleep(PUBLISH_S / 2)


def _total(ours: Spiritsafe, counter: str) -> float:
    """Return a counter over all labels and processes, as they last published it."""
    families = metric_files.collect(ours.home / "data" / "metrics")
    samples = [sample for family in families if family.name == counter for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


def _command(house: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli", *words, "--config", str(house / "spiritsafe.toml")]
