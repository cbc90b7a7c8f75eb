"""Taking an account's rows out of frozen snapshots: their files are written anew without them, the manifest stays.

The manifest names rows by id and hash and holds no text, so it goes on saying what a student was made from. A snapshot
that lost rows says so in `removed.json`: it is no longer what was approved, and nothing trains on it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gateway.ledger import durable
from gateway.ledger.identifiers import now, to_rfc3339

REMOVED = "removed.json"


@dataclass(frozen=True)
class Loss:
    """That a snapshot's folder holds or held `rows` rows of an account."""

    path: Path
    rows: int


def removals(folder: Path) -> list[dict[str, Any]]:
    """Return what was taken out of a snapshot: {erasure, time, rows} each; nothing for one that is whole."""
    try:
        found: list[dict[str, Any]] = json.loads((folder / REMOVED).read_bytes())
    except FileNotFoundError:
        return []
    return found


def take_out(folder: Path, account: str, erasure: str, moment: datetime | None = None) -> Loss | None:
    """Remove the account's rows from a snapshot's folder; None when it never had any. Safe to repeat."""
    files = {path: rows for path in sorted(folder.glob("*.parquet")) if (rows := rows_of(path, account))}
    known = next((entry["rows"] for entry in removals(folder) if entry["erasure"] == erasure), None)
    rows = sum(files.values()) if known is None else known
    if not rows:
        return None
    if known is None:
        # Before any row goes: from now on the folder tells that it is not whole.
        entry = {"erasure": erasure, "time": to_rfc3339(moment or now()), "rows": rows}
        durable.write(folder / REMOVED, json.dumps([*removals(folder), entry]).encode(), 0o444)
    for path in files:
        _rewrite(path, account)
    return Loss(folder, rows)


def rows_of(source: Any, account: str) -> int:
    """Return how many rows of the account a Parquet file (its path, or an open one) holds; 0 without that column."""
    if "account" not in pq.read_schema(source).names:
        return 0
    return int(pc.sum(pc.equal(pq.read_table(source, columns=["account"])["account"], account)).as_py() or 0)


def sweep(directory: Path) -> None:
    """Remove what killed selections left half-written; nobody knows whose rows are in it."""
    for leftover in directory.glob(".building.*"):
        process = Path("/proc", leftover.name.rpartition(".")[2])
        if not process.exists():
            shutil.rmtree(leftover, ignore_errors=True)


def _rewrite(path: Path, account: str) -> None:
    table = pq.read_table(path)
    left = pa.BufferOutputStream()
    pq.write_table(table.filter(pc.not_equal(table["account"], account)), left)
    durable.write(path, left.getvalue().to_pybytes(), 0o444)
