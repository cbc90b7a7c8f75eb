"""The traffic lake: a Delta table on disk, partitioned by day of ingestion, that many read and one at a time writes.

Every row carries `lake_version`, the table version that added it, so that `follow` stays right however often files
are rewritten by compaction and however much of the log is cleaned away. Delta itself never syncs a file; `append`
does, before the next commit is begun, so that only the newest commit can be broken by a power cut (`repair`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError

from gateway.ledger import removed_numbers, tombstones
from gateway.ledger.durable import sync_path
from gateway.ledger.errors import LedgerError
from gateway.ledger.rowhash import ROW_HASH, row_hashes
from gateway.ledger.traffic import SCHEMA, from_row, today

logger = logging.getLogger(__name__)

# Columns that the lake adds: the worker slot's stream and record number (null for imported rows), the version, and the
# hash of it all (null for rows of before there were hashes).
PROVENANCE = (
    ("spool_stream", pa.string()),
    ("spool_number", pa.int64()),
    ("lake_version", pa.int64()),
    (ROW_HASH, pa.binary()),
)
SMALL_FILES = 100
_READ_ATTEMPTS = 5
_T = TypeVar("_T")
_BATCH_ROWS = 10_000
_TARGET_BYTES = 32 * 1024 * 1024
_ORDERED_BYTES = 128 * 1024 * 1024  # of a closed day's files: many, so that few hold an account
_CONFIGURATION: dict[str, str | None] = {
    # One commit a second would fill the log's folder: a checkpoint each 100 commits, older entries gone after an hour.
    "delta.checkpointInterval": "100",
    "delta.enableExpiredLogCleanup": "true",
    "delta.logRetentionDuration": "interval 1 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
    # Statistics would copy prompts into the log; these columns are what readers prune files by.
    "delta.dataSkippingStatsColumns": "id,time,account,spool_number,lake_version",
}
_PARQUET_END = b"PAR1"  # A file whose size reached the disk before its bytes did ends with zeros instead.
# Where nearly every value is another one, a dictionary of them is work for nothing.
_DISTINCT = (
    *("id", "time", "messages", "prompt", "response", "latency_ms", "time_to_first_token_ms", "overhead_ms"),
    *("minhash", "embedding", "conversation", "spool_number", ROW_HASH),
)
ENCODING = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    column_properties=dict.fromkeys(_DISTINCT, ColumnProperties(dictionary_enabled=False)),
)


def _stored_type(field: pa.Field) -> pa.DataType:
    # Delta knows microseconds only, and no unsigned integers: a MinHash is 256 bytes, little-endian.
    if field.name == "minhash":
        return pa.binary()
    return pa.timestamp("us", "UTC") if field.name == "time" else field.type


STORED: pa.Schema = pa.schema([(field.name, _stored_type(field)) for field in SCHEMA] + list(PROVENANCE))


class Lake:
    """The table at a path. Reading is safe between threads and takes no lock; writers of all processes take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table: DeltaTable | None = None
        self._mutex = threading.Lock()

    def exists(self) -> bool:
        """Return whether the table has been made."""
        return DeltaTable.is_deltatable(str(self._path))

    def version(self) -> int:
        """Return the table's version; -1 before there is a table."""
        with self._mutex:
            table = self._refresh()
            return -1 if table is None else table.version()

    def read(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 (Arrow's own name for it)
        *,
        with_erased: bool = False,
    ) -> pa.Table:
        """Return rows (default: all) with columns of `SCHEMA` (default: all of them) or of `PROVENANCE`.

        Rows of accounts that are being erased are not among them, but for the one who counts or removes them.
        """
        names = list(columns or SCHEMA.names)
        chosen = filter if with_erased else self._seen(filter)
        return self._scan(lambda dataset, _version: _present(dataset.to_table(columns=names, filter=chosen)))

    def follow(self, since_version: int, columns: Sequence[str] | None = None) -> tuple[pa.Table, int]:
        """Return the rows added after a version, in the order they were added, and the version they reach up to.

        Begin with -1; the version returned is what the next call is given.
        """
        names = list(columns or SCHEMA.names)
        wanted = list(dict.fromkeys([*names, "lake_version", "spool_number"]))
        chosen = self._seen(pc.field("lake_version") > since_version)

        def read(dataset: ds.Dataset, version: int) -> tuple[pa.Table, int]:
            if version <= since_version:
                return _present(_empty(names)), version
            rows = dataset.to_table(columns=wanted, filter=chosen)
            ordered = rows.sort_by([("lake_version", "ascending"), ("spool_number", "ascending")])
            return _present(ordered.select(names)), version

        return self._scan(read)

    def record(self, record_id: str) -> dict[str, Any] | None:
        """Return the record of that id in its documented form, or None."""
        rows = self.read(filter=pc.field("id") == record_id)
        return from_row(rows.slice(0, 1).to_pylist()[0]) if rows.num_rows else None

    def files(self, columns: Sequence[str]) -> Iterator[tuple[str, Iterator[pa.RecordBatch]]]:
        """Yield each data file's path and its rows as they are stored, a batch at a time; null where a column is newer.

        Reading one raises `OSError` or `pa.ArrowException` when its bytes make no sense.
        """
        with self._mutex:
            table = self._refresh()
            found = [] if table is None else pa.table(table.get_add_actions(flatten=True)).to_pylist()
        for action in found:
            yield action["path"], _stored_rows(self._path / action["path"], action["partition.day"], columns)

    def has_file(self, path: str) -> bool:
        """Return whether a data file, as `files` names it, is one of the newest version's."""
        with self._mutex:
            table = self._refresh()
            return table is not None and path in pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()

    def ids(self) -> Iterator[list[str]]:
        """Yield the ids of all rows, a batch at a time."""
        for batch in self.batches(["id"]):
            yield batch.column(0).to_pylist()

    def batches(
        self,
        columns: Sequence[str],
        filter: pc.Expression | None = None,  # noqa: A002 (Arrow's own name for it)
    ) -> Iterator[pa.Table]:
        """Yield rows as `read` returns them, a batch at a time, so that memory does not grow with the lake."""
        dataset, _version = self._dataset()
        for batch in dataset.to_batches(columns=list(columns), filter=self._seen(filter)):
            yield _present(pa.Table.from_batches([batch]))

    def days(self) -> list[str]:
        """Return the days of ingestion that have rows, newest first."""
        with self._mutex:
            table = self._refresh()
            days = {str(item["day"]) for item in table.partitions()} if table is not None else set()
        return sorted(days, reverse=True)

    def last_transaction(self, app_id: str) -> int | None:
        """Return the version an application wrote with its last commit, or None."""
        with self._mutex:
            table = self._refresh()
            return None if table is None else table.transaction_version(app_id)

    def append(self, table: pa.Table, transactions: Mapping[str, int] | None = None) -> int:
        """Commit rows of `SCHEMA` and, with them, how far each application got; synced to disk. Returns the version.

        Rows of accounts that are being erased do not come in; their numbers are noted as removed.
        """
        marks = [Transaction(name, version) for name, version in (transactions or {}).items()]
        with self._writing(), self._mutex:
            target = self._widened(self._refresh() or self._create())
            version = target.version() + 1
            commit = CommitProperties(max_commit_retries=0, app_transactions=marks)
            rows = _store(self._admitted(table), version)
            write_deltalake(target, rows, mode="append", writer_properties=ENCODING, commit_properties=commit)
            if target.version() != version:
                raise LedgerError(f"{self._path} was written to by something else: only Spiritsafe may commit to it")
            self._sync(version)
        return version

    def repair(self) -> bool:
        """Undo the newest commits if a power cut left them broken (rows are still in the spool); True when it did.

        A sound one is synced again, since its writer may have been killed before it did so.
        """
        if not self._path.exists():
            return False
        with self._writing(), self._mutex:
            undone = False
            while commits := sorted(self._log.glob("[0-9]*.json")):
                version = int(commits[-1].stem)
                if _is_sound(self._path, commits[-1]):
                    self._sync(version)
                    break
                logger.warning("undoing the broken commit %s of the lake; its rows are ingested again", version)
                self._undo(version)
                self._table, undone = None, True
            return undone

    def tidy(self, most: int = SMALL_FILES) -> int:
        """Merge today's small files if they are more than `most`, erase those merged an hour ago; return how many."""
        with self.changing() as table:
            if table is None:
                return 0
            day = [("day", "=", today())]
            paths = table.file_uris(file_pruning_predicate=day)
            small = sum(os.path.getsize(path) < _TARGET_BYTES for path in paths)
            if small <= most:
                return 0
            table.optimize.compact(partition_filters=day, target_size=_TARGET_BYTES, writer_properties=ENCODING)
            _vacuum(table)
            return small

    def order(self, day: str) -> int:
        """Rewrite a day's files in Z-order of account and time, so that either finds its rows in few; return how many.

        Writers wait meanwhile; a day that is over has none, so that its new files stay as they are.
        """
        with self.changing() as table:
            if table is None:
                return 0
            metrics = table.optimize.z_order(
                ["account", "time"],
                partition_filters=[("day", "=", day)],
                target_size=_ORDERED_BYTES,
                max_concurrent_tasks=2,
                writer_properties=ENCODING,
            )
            return int(metrics["numFilesRemoved"])

    def erase_replaced(self) -> None:
        """Erase the files that were merged or rewritten an hour ago or earlier."""
        with self.changing() as table:
            if table is not None:
                _vacuum(table)

    def paths(self, day: str) -> list[str]:
        """Return the names of a day's data files, in order."""
        with self._mutex:
            table = self._refresh()
            return [] if table is None else sorted(table.file_uris(file_pruning_predicate=[("day", "=", day)]))

    @contextmanager
    def changing(self) -> Iterator[DeltaTable | None]:
        """Hold the turn of the one writer and yield the table, None before there is one; its commits are synced."""
        with self._writing(), self._mutex:
            table = self._refresh()
            table = None if table is None else self._widened(table)
            before = -1 if table is None else table.version()
            yield table
            for version in range(before + 1, 0 if table is None else table.version() + 1):
                self._sync(version)

    @property
    def folder(self) -> Path:
        """Where the table is."""
        return self._path

    def _admitted(self, table: pa.Table) -> pa.Table:
        hidden = tombstones.names(self._path.parent)
        if not hidden:
            return table
        gone = pc.is_in(table["account"], value_set=pa.array(sorted(hidden), pa.string()))
        if "spool_stream" in table.column_names:
            removed_numbers.note(self._path.parent, table.filter(gone))
        return table.filter(pc.invert(gone))

    def _seen(self, chosen: pc.Expression | None) -> pc.Expression | None:
        hidden = tombstones.names(self._path.parent)
        if not hidden:
            return chosen
        seen = ~pc.field("account").isin(sorted(hidden))
        return seen if chosen is None else chosen & seen

    def _scan(self, read: Callable[[ds.Dataset, int], _T]) -> _T:
        """Read the newest version; once more where an erasure took files away from under it."""
        for _attempt in range(_READ_ATTEMPTS - 1):
            try:
                return read(*self._dataset())
            except FileNotFoundError:
                continue
        return read(*self._dataset())

    @property
    def _log(self) -> Path:
        return self._path / "_delta_log"

    def _refresh(self) -> DeltaTable | None:
        if self._table is None:
            self._table = DeltaTable(str(self._path)) if self.exists() else None
            return self._table
        try:
            self._table.update_incremental()
        except DeltaError:  # The log entries since our version are gone: read the newest checkpoint instead.
            self._table = DeltaTable(str(self._path))
        return self._table

    def _dataset(self) -> tuple[ds.Dataset, int]:
        with self._mutex:
            table = self._refresh()
            if table is None:
                return ds.dataset(_empty(STORED.names)), -1
            return table.to_pyarrow_dataset(), table.version()

    def _create(self) -> DeltaTable:
        self._path.mkdir(parents=True, exist_ok=True)
        self._table = DeltaTable.create(str(self._path), STORED, partition_by="day", configuration=_CONFIGURATION)
        self._sync(0)
        return self._table

    def _widened(self, table: DeltaTable) -> DeltaTable:
        """Return the table with the columns that have been added to the lake since it was made."""
        known = {field.name for field in table.schema().fields}
        missing = [field for field in STORED if field.name not in known]
        if missing:
            table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)
            self._sync(table.version())
        return table

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sync(self, version: int) -> None:
        commit = self._log / f"{version:020d}.json"
        files = [self._path / path for path, _size in _added(commit)]
        for path in [*files, commit, *self._log.glob(f"{version:020d}.checkpoint*"), self._log / "_last_checkpoint"]:
            if path.exists():
                sync_path(path)
        above = (self._path, self._path.parent, self._path.parent.parent)
        for folder in {*(path.parent for path in files), self._log, *above}:
            sync_path(folder)

    def _undo(self, version: int) -> None:
        for path in self._log.glob(f"{version:020d}.*"):
            path.unlink()
        # It may point at the checkpoint just removed, and is only a shortcut.
        (self._log / "_last_checkpoint").unlink(missing_ok=True)
        sync_path(self._log)


def _store(table: pa.Table, version: int) -> pa.Table:
    columns = []
    fields = [field for field in STORED if field.name != ROW_HASH]
    for field in fields:
        if field.name == "lake_version":
            columns.append(pa.array(np.full(table.num_rows, version, np.int64)))
        elif field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            column = table.column(field.name)
            packed = pa.chunked_array(map(_pack, column.chunks), pa.binary()) if field.name == "minhash" else column
            columns.append(packed.cast(field.type))
    rows = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    return rows.append_column(STORED.field(ROW_HASH), row_hashes(rows))


def _stored_rows(path: Path, day: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    # Read as a file, not as Delta's dataset: that refuses one whose size is not what the log says without a look at it.
    fields = [STORED.field(name) for name in columns]
    with pq.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=there):
            size = batch.num_rows
            added = {"day": pa.array([day] * size)} if "day" in columns else {}
            arrays = [
                batch.column(field.name).cast(field.type)
                if field.name in there
                else added.get(field.name, pa.nulls(size, field.type))
                for field in fields
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _present(table: pa.Table) -> pa.Table:
    columns, fields = [], []
    for field in table.schema:
        column = table.column(field.name)
        if field.name == "minhash":
            column = pa.chunked_array([_unpack(chunk) for chunk in column.chunks], pa.list_(pa.uint32()))
        elif field.name in SCHEMA.names:
            column = column.cast(SCHEMA.field(field.name).type)
        columns.append(column)
        fields.append(pa.field(field.name, column.type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _empty(names: Sequence[str]) -> pa.Table:
    return pa.schema([STORED.field(name) for name in names]).empty_table()


def _pack(column: pa.ListArray) -> pa.Array:
    # The buffers are relabelled, not copied number by number: offsets in bytes instead of in entries.
    offsets = pa.py_buffer((column.offsets.to_numpy() * 4).astype(np.int32))
    packed = pa.Array.from_buffers(pa.binary(), len(column), [None, offsets, column.values.buffers()[1]])
    return pc.if_else(column.is_valid(), packed, pa.scalar(None, pa.binary()))


def _unpack(column: pa.BinaryArray) -> pa.ListArray:
    if len(column) == 0 or column.null_count == len(column):
        return pa.nulls(len(column), pa.list_(pa.uint32()))
    _validity, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1] // 4
    values = pa.Array.from_buffers(pa.uint32(), data.size // 4, [None, data])
    return pa.ListArray.from_arrays(pa.array(ends), values, mask=column.is_null())


def _vacuum(table: DeltaTable) -> None:
    table.vacuum(retention_hours=1, enforce_retention_duration=False, dry_run=False)


def _added(commit: Path) -> list[tuple[str, int]]:
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    return [(action["add"]["path"], action["add"]["size"]) for action in actions if "add" in action]


def _is_sound(root: Path, commit: Path) -> bool:
    try:
        added = _added(commit)
        return commit.stat().st_size > 0 and all(_is_whole(root / path, size) for path, size in added)
    except (OSError, ValueError, KeyError):
        return False


def _is_whole(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(-len(_PARQUET_END), os.SEEK_END)
        return file.read() == _PARQUET_END and file.tell() == size


def millisecond(moment: datetime) -> pa.Scalar:
    """Return a time as the lake's filters compare it."""
    return pa.scalar(moment.astimezone(UTC), pa.timestamp("ms", "UTC"))
