"""`make bench-ledger`: how fast the spool takes records and the ingester moves them, and what the lake then answers.

Rows are 2 KB. The lake is filled batch by batch with rows made beforehand, so that its own cost shows whether it grows;
SQLite and PostgreSQL get the same rows in the same run, up to a million.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.rig import databases
from benchmarks.rig.accounting import rig
from benchmarks.rig.records import Records, as_spooled, size_of
from gateway.ledger.disk import DiskBudget
from gateway.ledger.frames import Kind, encode
from gateway.ledger.identifiers import uuid7
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.maintenance import maintain
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import to_table
from gateway.records import complete
from gateway.settings import Settings

BATCH = 10_000
MOST_IN_DATABASES = 1_000_000
SOME_ACCOUNT = "account-0042"


def measure_spool(folder: Path, count: int, records: Records) -> dict[str, float]:
    """Records a second: final frames alone, start and final, and answers in strict mode by how many wait at once."""
    made = [as_spooled(records.one(number)) for number in range(min(count, 20_000))]
    figures: dict[str, float] = {"frame_bytes": _frame_bytes(made)}
    writer = SpoolWriter(folder / "finals", "w0")
    figures["finals_per_s"] = _rate(count, lambda number: writer.final(made[number % len(made)]))
    writer.close()
    writer = SpoolWriter(folder / "pairs", "w0")

    def pair(number: int) -> None:
        record = made[number % len(made)]
        writer.start({name: record[name] for name in ("id", "time", "account", "endpoint", "model_requested")})
        writer.final(record)

    figures["pairs_per_s"] = _rate(count, pair)
    writer.close()
    for waiting in (1, 64):
        figures[f"strict_answers_per_s_{waiting}_waiting"] = _strict_rate(folder / f"strict{waiting}", made, waiting)
    return figures


def _frame_bytes(written: list[dict[str, Any]]) -> float:
    return round(statistics.mean(len(encode(Kind.FINAL, 1, 1, record)) for record in written[:1000]))


def _strict_rate(folder: Path, made: list[dict[str, Any]], waiting: int, seconds: float = 2.0) -> float:
    writer, slots = SpoolWriter(folder, "w0"), threading.Semaphore(waiting)
    answered = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        slots.acquire()
        writer.final(made[answered % len(made)], lambda _error: slots.release())
        answered += 1
    for _slot in range(waiting):
        slots.acquire()
    taken = time.perf_counter() - started
    writer.close()
    return round(answered / taken)


def _rate(count: int, work: Callable[[int], None]) -> float:
    started = time.perf_counter()
    for number in range(count):
        work(number)
    return round(count / (time.perf_counter() - started))


def measure_ingestion(folder: Path, count: int, records: Records, *, with_text: bool) -> dict[str, float]:
    """Rows a second from spool to lake, by wall clock and of one core's time: of the ingester and its decoders."""
    settings = Settings(data_dir=folder)
    writer = SpoolWriter(folder / "spool", "w0")
    made = [records.one(number, with_text=with_text) for number in range(1000)]
    frame_bytes = _frame_bytes([as_spooled(record) for record in made])
    for number in range(count):
        writer.final(as_spooled(records.one(number, with_text=with_text)))
    writer.close()
    ingester = Ingester(settings, complete)
    started, before = time.perf_counter(), os.times()
    rows = ingester.run_once()
    seconds = time.perf_counter() - started
    ingester.close()  # ends the decoders, whose time is told then
    cpu = sum(os.times()[:4]) - sum(before[:4])
    assert rows == count
    report = rehash(settings)
    assert report.is_sound
    assert report.rows == count
    return {
        "record_bytes": round(size_of(made)),
        "frame_bytes": frame_bytes,
        "rows_per_s": round(count / seconds),
        "rows_per_cpu_s": round(count / cpu),
    }


def measure_lake(settings: Settings, count: int, records: Records) -> dict[str, Any]:
    """Fill the lake, maintain it as the ingester and the night do, and ask what people and the detector ask."""
    lake = Lake(settings.data_dir / "lake" / "traffic")
    template = [to_table([records.one(n) for n in range(start, start + BATCH)]) for start in range(0, 5 * BATCH, BATCH)]
    raw = size_of([records.one(number) for number in range(1000)])
    chunks: list[float] = []
    seconds = 0.0
    begin, step = records.end - timedelta(days=10), timedelta(days=10) / count
    for number, start in enumerate(range(0, count, BATCH)):
        rows = _as_of(template[number % len(template)], start, begin, step)
        started = time.perf_counter()
        lake.append(rows)
        if number % 100 == 99:
            lake.tidy()
        seconds += time.perf_counter() - started
        if (start + BATCH) % max(BATCH, count // 10) == 0:
            chunks.append(round(seconds / max(BATCH, count // 10) * 1e6, 2))
            seconds = 0.0
    steps = {report.step: report.seconds for report in maintain(settings)}
    lake.erase_replaced()
    taken = sum(Path(path).stat().st_size for day in lake.days() for path in lake.paths(day))
    disk = DiskBudget(settings.data_dir, 0)
    disk.measure()
    aggregates = ["account", "usage", "cost"]
    started = time.perf_counter()
    hashes = rehash(settings)
    rehashing = time.perf_counter() - started
    assert hashes.is_sound
    assert hashes.rows == count
    hour = (pc.field("account") == SOME_ACCOUNT) & (pc.field("time") >= millisecond(records.end - timedelta(hours=1)))
    whole = pc.field("account") == SOME_ACCOUNT
    return {
        "rows": count,
        "us_per_row_by_tenth": chunks,
        "maintain_s": steps,
        "disk_share_of_raw": round(taken / count / raw, 3),
        "disk_with_replaced_files_mb": round(disk.used_bytes / 1e6),
        "last_hour_s": round(databases.median_s(lambda: lake.read(["id", "cost"], hour)), 3),
        "account_s": round(databases.median_s(lambda: lake.read(["id", "cost"], whole)), 3),
        "aggregate_s": round(databases.median_s(lambda: _aggregate(lake.read(aggregates))), 3),
        "rehash_s": round(rehashing, 2),
    }


def _as_of(rows: pa.Table, start: int, begin: Any, step: timedelta) -> pa.Table:
    """Return the rows with ids, times and days of their own."""
    count = rows.num_rows
    first = np.datetime64((begin + start * step).replace(tzinfo=None), "ms")
    times = first + (np.arange(count) * (step / timedelta(milliseconds=1))).astype("timedelta64[ms]")
    values = {
        "id": pa.array([uuid7() for _row in range(count)]),
        "time": pa.array(times, pa.timestamp("ms")).cast(rows.schema.field("time").type),
        "day": pa.array(np.datetime_as_string(times, "D")),
    }
    for name, value in values.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), value)
    return rows


def _aggregate(rows: pa.Table) -> pa.Table:
    usage = rows["usage"].combine_chunks()
    flat = pa.table(
        {
            "account": rows["account"],
            "cost": rows["cost"],
            "input": pc.struct_field(usage, "input_tokens"),
            "output": pc.struct_field(usage, "output_tokens"),
        }
    )
    return flat.group_by("account").aggregate(
        [("cost", "sum"), ("input", "sum"), ("output", "sum"), ("account", "count")]
    )


def measure_databases(folder: Path, count: int) -> dict[str, Any]:
    """Fill SQLite and PostgreSQL with the rows that the lake got."""

    def batches() -> Iterator[list[dict[str, Any]]]:
        records = Records(count)
        for start in range(0, count, BATCH):
            yield [records.one(number) for number in range(start, start + BATCH)]

    end = Records(BATCH).end
    found: dict[str, Any] = {"rows": count}
    for name, measure in (("sqlite", databases.sqlite), ("postgresql", databases.postgresql)):
        figures = measure(folder, batches(), SOME_ACCOUNT, end)
        found[name] = {key: round(value, 4) for key, value in vars(figures).items()} if figures else "not installed"
        _say(name, found[name])
    return found


def _say(what: str, found: object) -> None:
    print(f"{what}: {json.dumps(found)}", file=sys.stderr)


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of the lake, rounded to batches of 10,000.")
@click.option("--spooled", default=200_000, show_default=True, help="Records for the spool, and for ingestion.")
@click.option("--folder", type=click.Path(path_type=Path), default=None, help="Where to write (2 KB for each row).")
@click.option("--databases/--no-databases", "with_databases", default=True, show_default=True)
def main(rows: int, spooled: int, folder: Path | None, with_databases: bool) -> None:
    """Measure the ledger."""
    count = max(5, rows // BATCH) * BATCH
    document: dict[str, Any] = {"benchmark": "ledger", "rig": rig()}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        home = Path(name) / "part"
        for part, measure in _parts(home, count, spooled, with_databases).items():
            home.mkdir()
            document[part] = measure()
            _say(part, document[part])
            shutil.rmtree(home)
    print(json.dumps(document))


def _parts(home: Path, count: int, spooled: int, with_databases: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    records = Records(count)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "spool": lambda: measure_spool(home / "spool", spooled, records),
        "ingestion_of_metadata": lambda: measure_ingestion(home / "metadata", spooled, records, with_text=False),
        "ingestion_with_fingerprints": lambda: measure_ingestion(home / "text", spooled, records, with_text=True),
        "lake": lambda: measure_lake(Settings(data_dir=home / "lake"), count, records),
    }
    if with_databases:
        parts["databases"] = lambda: measure_databases(home, min(count, MOST_IN_DATABASES))
    return parts


if __name__ == "__main__":
    main()
