"""The traffic lake: a Delta table, partitioned by day of ingestion, in a folder or in a bucket (`Lake.of`).

Every row carries `lake_version`, the table version that added it, so that `follow` stays right however often files
are rewritten by compaction and however much of the log is cleaned away. In a folder one process at a time writes; in a
bucket any may, and a commit that another one came before is made again, with the next version in its rows.
"""

from __future__ import annotations

import importlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
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
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from gateway.ledger.configuration import Place
from gateway.ledger.errors import LedgerError
from gateway.ledger.folder import Folder
from gateway.ledger.rowhash import ROW_HASH, row_hashes
from gateway.ledger.storage import Storage
from gateway.ledger.traffic import SCHEMA, from_row, today

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
_COMMIT_ATTEMPTS = 50  # where others commit too: each loses to one that got through
_REWRITE_ATTEMPTS = 5
_LONGEST_PAUSE_S = 1.0
_FENCE = "spiritsafe-fence"
_REWRITER = "spiritsafe.rewriter"
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
    """The table at a place. Reading is safe between threads and takes no lock; a machine's writers take turns.

    `conflicts` counts commits that were made again because another machine's came first.
    """

    def __init__(self, place: Path | Storage) -> None:
        self.storage: Storage = Folder(place) if isinstance(place, Path) else place
        self.conflicts = 0
        self._table: DeltaTable | None = None
        self._mutex = threading.Lock()

    @classmethod
    def of(cls, settings: Place) -> Lake:
        """Return an installation's lake: the only place that knows where it is."""
        if not settings.lake:
            return cls(settings.data_dir / "lake" / "traffic")
        try:
            # Who keeps the lake on a disk needs no client of S3's.
            bucket = importlib.import_module("gateway.ledger.bucket")
        except ModuleNotFoundError as error:
            raise LedgerError(f"`lake` needs a client of S3's ({error}): pip install 'spiritsafe[s3]'") from error
        return cls(bucket.Bucket(settings.lake, settings.s3, settings.data_dir / "lake"))

    def exists(self) -> bool:
        """Return whether the table has been made."""
        # Delta's own question holds the interpreter until S3 answers; opening does not.
        with self.storage.checked():
            return self._open_if_there() is not None

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
        for action in self._ask(lambda table: pa.table(table.get_add_actions(flatten=True)).to_pylist()) or []:
            yield action["path"], self._stored_rows(action["path"], action["partition.day"], columns)

    def has_file(self, path: str) -> bool:
        """Return whether a data file, as `files` names it, is one of the newest version's."""
        paths = self._ask(lambda table: pa.table(table.get_add_actions(flatten=True))["path"].to_pylist())
        return path in (paths or [])

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
        with self.storage.checked():
            for batch in dataset.to_batches(columns=list(columns), filter=self._seen(filter)):
                yield _present(pa.Table.from_batches([batch]))

    def days(self) -> list[str]:
        """Return the days of ingestion that have rows, newest first."""
        days = self._ask(lambda table: {str(item["day"]) for item in table.partitions()})
        return sorted(days or (), reverse=True)

    def last_transaction(self, app_id: str) -> int | None:
        """Return the version an application wrote with its last commit, or None."""
        return self._ask(lambda table: table.transaction_version(app_id))

    def append(
        self,
        table: pa.Table,
        transactions: Mapping[str, int] | None = None,
        since: Mapping[str, int] | None = None,
    ) -> int:
        """Commit rows of `SCHEMA` and, with them, how far each application got; durable. Returns the version.

        Rows of accounts that are being erased do not come in; their numbers are noted as removed. `since` says how far
        the applications were when the rows were read: `LedgerError` when they have got further since.
        """
        marks = [Transaction(name, version) for name, version in (transactions or {}).items()]
        with self.storage.appending(), self._mutex:
            for _attempt in range(_COMMIT_ATTEMPTS):
                target = self._widened(self._refresh() or self._create())
                self._check_since(target, since or {})
                version = self._commit(target, table, marks)
                if version is not None:
                    return version
                self.conflicts += 1
                time.sleep(random.uniform(0, _LONGEST_PAUSE_S))
        raise LedgerError(f"{_COMMIT_ATTEMPTS} times another machine's commit to {self.storage.uri} came first")

    def repair(self) -> bool:
        """Undo the newest commits if a power cut left them broken (rows are still in the spool); True when it did."""
        undone = self.storage.repair()
        if undone:
            with self._mutex:
                self._table = None
        return undone

    def tidy(self, most: int = SMALL_FILES) -> int:
        """Merge today's small files if they are more than `most`, erase those merged an hour ago; return how many."""

        def merge(table: DeltaTable) -> int:
            files = pa.table(table.get_add_actions(flatten=True))
            small = pc.and_(pc.equal(files["partition.day"], today()), pc.less(files["size_bytes"], _TARGET_BYTES))
            count: int = pc.sum(small).as_py() or 0
            if count <= most:
                return 0
            day = [("day", "=", today())]
            self._claim(table)
            table.optimize.compact(partition_filters=day, target_size=_TARGET_BYTES, writer_properties=ENCODING)
            _vacuum(table)
            return count

        return self.rewrite(merge)

    def order(self, day: str) -> int:
        """Rewrite a day's files in Z-order of account and time, so that either finds its rows in few; return how many.

        Writers wait meanwhile; a day that is over has none, so that its new files stay as they are.
        """

        def sort(table: DeltaTable) -> int:
            self._claim(table)
            metrics = table.optimize.z_order(
                ["account", "time"],
                partition_filters=[("day", "=", day)],
                target_size=_ORDERED_BYTES,
                max_concurrent_tasks=2,
                writer_properties=ENCODING,
            )
            return int(metrics["numFilesRemoved"])

        return self.rewrite(sort)

    def rewrite(self, work: Callable[[DeltaTable], int]) -> int:
        """Have `work` replace files of the table and return what it returns; 0 before there is a table.

        It is called again, with the table as it is then, where another machine's commit came first: one that was under
        way already, since the next waits, or one whose machine had not heard of the turn.
        """
        for attempt in range(1, _REWRITE_ATTEMPTS + 1):
            try:
                with self.changing() as table:
                    return 0 if table is None else work(table)
            except CommitFailedError:
                if attempt == _REWRITE_ATTEMPTS or not self.storage.is_shared:
                    raise
                self.conflicts += 1
        raise AssertionError("unreachable")

    def erase_replaced(self) -> None:
        """Erase the files that were merged or rewritten an hour ago or earlier."""
        with self.changing() as table:
            if table is not None:
                _vacuum(table)

    def paths(self, day: str) -> list[str]:
        """Return the names of a day's data files, in order."""
        return sorted(self._ask(lambda table: table.file_uris(file_pruning_predicate=[("day", "=", day)])) or [])

    @contextmanager
    def changing(self) -> Iterator[DeltaTable | None]:
        """Hold the turn to rewrite and yield the table, None before there is one; its commits are made durable."""
        with self.storage.rewriting(), self._mutex:
            table = self._refresh()
            table = None if table is None else self._widened(table)
            before = -1 if table is None else table.version()
            with self.storage.checked():
                yield table
            for version in range(before + 1, 0 if table is None else table.version() + 1):
                self.storage.sync(version)

    def hide(self, account: str) -> None:
        """Put an account's tombstone up: when this returns no row of it is read, and none will be committed."""
        with self.changing() as table:
            self.storage.hide(account)
            self.fence(table or self._create())

    def show(self, account: str) -> None:
        """Take the tombstone away."""
        with self.changing():
            self.storage.show(account)

    def fence(self, table: DeltaTable) -> None:
        """Have each commit that another machine has under way come before this or be refused.

        Whoever reads the tombstones does so after the table's version, so what is committed later has heeded those that
        stood before the fence.
        """
        if self.storage.is_shared:
            done = CommitProperties(app_transactions=[Transaction(_FENCE, table.version())])
            table.create_write_transaction([], "append", table.schema(), "day", commit_properties=done)
            table.update_incremental()

    def _claim(self, table: DeltaTable) -> None:
        """Have a merge that another machine has under way be refused.

        Delta commits a merge of files after one of the same files, as both leave the rows as they are; the rows would
        then be there twice. What it refuses is any commit that began before the table's properties were changed.
        """
        # Delta's own way to set a property holds all of Python while it waits for the store.
        known = table.metadata()
        entry = {
            "id": str(known.id),
            "name": known.name,
            "description": known.description,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": table.schema().to_json(),
            "partitionColumns": known.partition_columns,
            "createdTime": known.created_time,
            "configuration": {**known.configuration, _REWRITER: uuid.uuid4().hex},
        }
        version = table.version() + 1
        if not self.storage.claim(version, json.dumps({"metaData": entry}).encode()):
            raise CommitFailedError(f"version {version} is somebody else's")
        table.update_incremental()

    def _check_since(self, target: DeltaTable, since: Mapping[str, int]) -> None:
        for name, expected in since.items():
            if (target.transaction_version(name) or 0) != expected:
                raise LedgerError(f"rows of {name} have come into the lake meanwhile: its spool is read again")

    def _commit(self, target: DeltaTable, table: pa.Table, marks: list[Transaction]) -> int | None:
        """Try to commit with the next version; None when somebody else's commit has it."""
        version, token = target.version() + 1, uuid.uuid4().hex
        commit = CommitProperties({"append": token}, max_commit_retries=0, app_transactions=marks)
        rows = _store(self._admitted(table), version)
        try:
            with self.storage.checked():
                write_deltalake(target, rows, mode="append", writer_properties=ENCODING, commit_properties=commit)
        except CommitFailedError:
            if not self.storage.is_shared:
                raise
            return version if self.storage.wrote(version, token) else None
        if target.version() != version:
            raise LedgerError(f"{self.storage.uri} was written to by something else: only Spiritsafe may commit to it")
        self.storage.sync(version)
        return version

    def _admitted(self, table: pa.Table) -> pa.Table:
        hidden = self.storage.hidden()
        if not hidden:
            return table
        gone = pc.is_in(table["account"], value_set=pa.array(sorted(hidden), pa.string()))
        if "spool_stream" in table.column_names:
            self.storage.note_removed(table.filter(gone))
        return table.filter(pc.invert(gone))

    def _seen(self, chosen: pc.Expression | None) -> pc.Expression | None:
        hidden = self.storage.hidden()
        if not hidden:
            return chosen
        seen = ~pc.field("account").isin(sorted(hidden))
        return seen if chosen is None else chosen & seen

    def _scan(self, read: Callable[[ds.Dataset, int], _T]) -> _T:
        """Read the newest version; once more where an erasure took files away from under it."""
        with self.storage.checked():
            for _attempt in range(_READ_ATTEMPTS - 1):
                try:
                    return read(*self._dataset())
                except FileNotFoundError:
                    continue
            return read(*self._dataset())

    def _stored_rows(self, path: str, day: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # Read as a file, not as Delta's dataset: that refuses one whose size is not what the log says without a look.
        fields = [STORED.field(name) for name in columns]
        with pq.ParquetFile(self.storage.open(path)) as file:
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

    def _ask(self, question: Callable[[DeltaTable], _T]) -> _T | None:
        """Ask the newest version, None before there is one; another where the log was begun anew under the question.

        Delta reads the log when it is asked, which may be after another machine has emptied the entries of our version.
        """
        with self._mutex:
            for _attempt in range(_READ_ATTEMPTS - 1):
                table = self._refresh()
                try:
                    return None if table is None else question(table)
                except DeltaError:
                    self._table = None
            table = self._refresh()
            return None if table is None else question(table)

    def _refresh(self) -> DeltaTable | None:
        with self.storage.checked():
            if self._table is None:
                self._table = self._open_if_there()
                return self._table
            try:
                self._table.update_incremental()
            except DeltaError:  # The log entries since our version are gone: read the newest checkpoint instead.
                self._table = self._open()
            return self._table

    def _open_if_there(self) -> DeltaTable | None:
        try:
            return self._open()
        except TableNotFoundError:
            return None

    def _open(self) -> DeltaTable:
        for _attempt in range(_READ_ATTEMPTS - 1):
            try:
                return DeltaTable(self.storage.uri, storage_options=self.storage.options)
            except TableNotFoundError:
                raise
            except DeltaError:  # The log was begun anew between its listing and its reading.
                continue
        return DeltaTable(self.storage.uri, storage_options=self.storage.options)

    def _dataset(self) -> tuple[ds.Dataset, int]:
        found = self._ask(lambda table: (table.to_pyarrow_dataset(), table.version()))
        return (ds.dataset(_empty(STORED.names)), -1) if found is None else found

    def _create(self) -> DeltaTable:
        storage = self.storage
        storage.make_room()
        try:
            with storage.checked():
                self._table = DeltaTable.create(
                    storage.uri,
                    STORED,
                    partition_by="day",
                    configuration=_CONFIGURATION,
                    storage_options=storage.options,
                )
        except DeltaError:
            # Two machines begin the same lake at once: it is the other's then.
            if not storage.is_shared or not self.exists():
                raise
            self._table = self._open()
        storage.sync(0)
        return self._table

    def _widened(self, table: DeltaTable) -> DeltaTable:
        """Return the table with the columns that have been added to the lake since it was made."""
        known = {field.name for field in table.schema().fields}
        missing = [field for field in STORED if field.name not in known]
        if missing:
            table.alter.add_columns(Schema.from_arrow(pa.schema(missing)).fields)
            self.storage.sync(table.version())
        return table


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


def since(moment: datetime) -> pc.Expression:
    """Return the filter for what was asked since a moment; days of ingestion before it need not be opened."""
    # Nothing is ingested before it was asked, give or take a clock.
    day = (moment.astimezone(UTC).date() - timedelta(days=1)).isoformat()
    return (pc.field("time") >= millisecond(moment)) & (pc.field("day") >= day)


def millisecond(moment: datetime) -> pa.Scalar:
    """Return a time as the lake's filters compare it."""
    return pa.scalar(moment.astimezone(UTC), pa.timestamp("ms", "UTC"))
