"""Changing or removing rows of the lake: parts of a day at a time, each a commit, while readers and appends go on.

Delta's files are never changed: a part is written anew without the rows, and the old file stays until `purge`, which
also cuts the log off, since it names the least and the greatest account of every old file. Writers take turns by the
lake's lock, so that none conflicts and an append waits for one part at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from gateway.ledger import durable, removed_numbers
from gateway.ledger.lake import Lake

PART_ROWS = 20_000
_ENCODING = WriterProperties(compression="ZSTD", compression_level=1)


@dataclass(frozen=True)
class _Part:
    """Rows of one day that the commits `first` to `last` added."""

    day: str
    first: int
    last: int

    @property
    def filter(self) -> pc.Expression:
        """The part as Arrow reads it."""
        version = pc.field("lake_version")
        return (pc.field("day") == self.day) & (version >= self.first) & (version <= self.last)

    @property
    def predicate(self) -> str:
        """The part as Delta replaces it."""
        return f"day = '{self.day}' AND lake_version >= {self.first} AND lake_version <= {self.last}"


def change(lake: Lake, chosen: pc.Expression, changed: Callable[[pa.Table], pa.Table]) -> int:
    """Replace the chosen rows by what `changed` makes of them, as they are stored; return how many were chosen."""
    total = 0
    for part in _parts(lake, chosen):
        with lake.changing() as table:
            if table is not None:
                total += _change_part(table, part, chosen, changed)
    return total


def remove(lake: Lake, chosen: pc.Expression) -> int:
    """Remove the chosen rows, after noting their numbers for `traffic verify`; return how many there were."""

    def emptied(rows: pa.Table) -> pa.Table:
        removed_numbers.note(lake.folder.parent, rows)
        return rows.slice(0, 0)

    return change(lake, chosen, emptied)


def purge(lake: Lake, older_than: timedelta = timedelta(0)) -> int:
    """Unlink files that no row of the table needs since `older_than`, orphans too; return how many.

    Without a time the log begins anew as well: what was removed can't be read by going back in it.
    """
    with lake.changing() as table:
        if table is None:
            return 0
        hours = round(older_than.total_seconds() / 3600)
        gone = table.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=True)
    if not older_than:
        with lake.changing() as table:
            if table is not None:
                _cut_log(lake.folder / "_delta_log", table)
    return len(gone)


def _parts(lake: Lake, chosen: pc.Expression) -> Iterator[_Part]:
    touched = lake.read(["day", "lake_version"], chosen, with_erased=True)
    for day in sorted(touched["day"].unique().to_pylist()):
        wanted = set(touched.filter(pc.field("day") == day)["lake_version"].unique().to_pylist())
        rows = lake.read(["lake_version"], pc.field("day") == day, with_erased=True)
        sizes = {pair["values"]: pair["counts"] for pair in rows["lake_version"].value_counts().to_pylist()}
        yield from _grouped(day, sizes, wanted)


def _grouped(day: str, sizes: dict[int, int], wanted: set[int]) -> Iterator[_Part]:
    group: list[int] = []
    size = 0
    for version in sorted(sizes):
        if group and size + sizes[version] > PART_ROWS:
            if wanted.intersection(group):
                yield _Part(day, group[0], group[-1])
            group, size = [], 0
        group.append(version)
        size += sizes[version]
    if wanted.intersection(group):
        yield _Part(day, group[0], group[-1])


def _change_part(table: DeltaTable, part: _Part, chosen: pc.Expression, changed: Callable[[pa.Table], pa.Table]) -> int:
    rows = table.to_pyarrow_dataset().to_table(filter=part.filter)
    surely = pc.coalesce(chosen, pc.scalar(False))
    picked = rows.filter(surely)
    if picked.num_rows == 0:
        return 0
    left = pa.concat_tables([rows.filter(~surely), changed(picked)])
    commit = CommitProperties(max_commit_retries=0)
    if left.num_rows == 0:
        table.delete(part.predicate, commit_properties=commit)
    else:
        write_deltalake(
            table,
            left,
            mode="overwrite",
            predicate=part.predicate,
            writer_properties=_ENCODING,
            commit_properties=commit,
        )
    return int(picked.num_rows)


def _cut_log(log: Path, table: DeltaTable) -> None:
    """Let the log begin at the present version: a checkpoint, and nothing older."""
    table.create_checkpoint()
    version = table.version()
    for path in [*log.glob(f"{version:020d}.checkpoint*"), log / "_last_checkpoint"]:
        _sync(path)
    for path in sorted(log.iterdir()):
        if path.name[:20].isdecimal() and int(path.name[:20]) < version:
            path.unlink()
    durable.sync_folder(log)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
