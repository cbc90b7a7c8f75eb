"""SQLite and PostgreSQL with the same rows: what the ledger would cost in a database, measured in the same run."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

COLUMNS = ("id", "time", "account", "model", "status", "input_tokens", "output_tokens", "cost", "body")
_TABLE = """
CREATE TABLE traffic (id text PRIMARY KEY, time {time}, account text, model text, status integer,
input_tokens integer, output_tokens integer, cost bigint, body text)
"""
_INDEX = "CREATE INDEX of_account ON traffic (account, time)"
_AGGREGATE = "SELECT account, count(*), sum(input_tokens), sum(output_tokens), sum(cost) FROM traffic GROUP BY account"
_HOUR = "SELECT id, cost FROM traffic WHERE account = '{account}' AND time >= '{since}'"


@dataclass
class Figures:
    """Rows a second in batches, bytes on disk for a row, seconds of the two queries."""

    rows_per_s: float
    bytes_per_row: float
    last_hour_s: float
    aggregate_s: float


def row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return a record as both databases are given it: what is filtered by, and all of it as JSON."""
    usage = record["usage"]
    figures = (usage["input_tokens"], usage["output_tokens"], record["cost"])
    named = (record["id"], record["time"], record["account"], record["model"], record["status"])
    return (*named, *figures, json.dumps(record, separators=(",", ":")))


def sqlite(folder: Path, batches: Iterator[list[dict[str, Any]]], account: str, end: datetime) -> Figures:
    """Measure SQLite: WAL, synced as the spool is (`synchronous=normal`), an index for the account's hours."""
    path = folder / "traffic.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = normal")
        connection.execute(_TABLE.format(time="text"))
        connection.execute(_INDEX)
        insert = f"INSERT INTO traffic VALUES ({', '.join('?' * len(COLUMNS))})"

        def add(rows: list[tuple[Any, ...]]) -> None:
            with connection:
                connection.executemany(insert, rows)

        count, seconds = _fill(batches, add)
        connection.execute("PRAGMA wal_checkpoint(truncate)")
        hour = median_s(lambda: connection.execute(_hour(account, end)).fetchall())
        aggregate = median_s(lambda: connection.execute(_AGGREGATE).fetchall())
    connection.close()
    return Figures(count / seconds, path.stat().st_size / count, hour, aggregate)


def postgresql(folder: Path, batches: Iterator[list[dict[str, Any]]], account: str, end: datetime) -> Figures | None:
    """Measure PostgreSQL through `COPY`, its fastest way in, each batch a transaction; None where there is none."""
    if shutil.which("postgres") is None or shutil.which("psql") is None:
        return None
    with _server(folder) as sql:
        sql(_TABLE.format(time="timestamptz"))
        sql(_INDEX)

        def add(rows: list[tuple[Any, ...]]) -> None:
            text = "".join("\t".join(map(_copied, values)) + "\n" for values in rows)
            sql("COPY traffic FROM STDIN;\n" + text + "\\.\n")

        count, seconds = _fill(batches, add)
        sql("VACUUM ANALYZE traffic")
        size = int(sql("SELECT pg_total_relation_size('traffic')"))
        hour = median_s(lambda: sql(_hour(account, end)))
        aggregate = median_s(lambda: sql(_AGGREGATE))
    return Figures(count / seconds, size / count, hour, aggregate)


@contextmanager
def _server(folder: Path) -> Iterator[Callable[[str], str]]:
    home, socket = folder / "postgresql", folder / "socket"
    socket.mkdir()
    initdb = shutil.which("initdb") or str(Path(os.path.realpath(str(shutil.which("postgres")))).parent / "initdb")
    # It refuses to run as root, and then runs as the user that the folder is given to.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(socket, user)
        home.mkdir()
        shutil.chown(home, user)
        for path in (folder, folder.parent):
            if path.stat().st_mode & 0o077 == 0:
                path.chmod(0o711)
    options: dict[str, Any] = {"user": user, "cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", str(home), "-U", "bench", "-A", "trust"], check=True, **options)
    settings = ["listen_addresses=", f"unix_socket_directories={socket}", "synchronous_commit=off", "max_wal_size=8GB"]
    arguments = [part for setting in settings for part in ("-c", setting)]
    process = subprocess.Popen(["postgres", "-D", str(home), *arguments], **options)

    def sql(text: str) -> str:
        command = [
            "psql",
            "-h",
            str(socket),
            "-U",
            "bench",
            "-d",
            "postgres",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
        ]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    try:
        for _try in range(100):
            try:
                sql("SELECT 1")
                break
            except RuntimeError:
                time.sleep(0.1)
        yield sql
    finally:
        process.terminate()
        process.wait()


def _fill(batches: Iterator[list[dict[str, Any]]], add: Callable[[list[tuple[Any, ...]]], None]) -> tuple[int, float]:
    count, seconds = 0, 0.0
    for batch in batches:
        rows = [row(record) for record in batch]
        started = time.perf_counter()
        add(rows)
        seconds += time.perf_counter() - started
        count += len(rows)
    return count, seconds


def _hour(account: str, end: datetime) -> str:
    since = (end - timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _HOUR.format(account=account, since=since)


def _copied(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def median_s(query: Callable[[], object], times: int = 3) -> float:
    """Return the seconds that a query takes, the median of so many."""
    seconds = []
    for _time in range(times):
        started = time.perf_counter()
        query()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
