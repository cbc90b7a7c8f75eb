"""Changing or removing rows of the lake: a day at a time, each a commit, while readers and appends go on.

Delta's files are never changed: a day is written anew without the rows, and its old files stay until `purge`, which
also cuts the log off, since it names the least and the greatest account of every old file. Appends wait for one day at
most; one of another machine that was under way already makes a day begin again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, write_deltalake

from gateway.ledger.lake import ENCODING, STORED, Lake
from gateway.ledger.rowhash import ROW_HASH, row_hashes

BATCH_ROWS = 10_000
Changed = Callable[[pa.Table], pa.Table]


def change(lake: Lake, chosen: pc.Expression, changed: Changed) -> int:
    """Replace the chosen rows by what `changed` makes of each, as they are stored; return how many were chosen.

    Their hashes are made anew. A row that was damaged before goes on being one, and one without a hash too.
    """
    return _rewrite(lake, chosen, lambda rows: _hashed_anew(rows, changed(rows)))


def remove(lake: Lake, chosen: pc.Expression) -> int:
    """Remove the chosen rows, after noting their numbers for `traffic verify`; return how many there were."""

    def emptied(rows: pa.Table) -> pa.Table:
        lake.storage.note_removed(rows)
        return rows.slice(0, 0)

    return _rewrite(lake, chosen, emptied)


def purge(lake: Lake) -> int:
    """Unlink files that no row of the table needs, orphans too, and begin the log anew; return how many.

    What was removed can't be read by going back in the log then.
    """
    with lake.changing() as table:
        if table is None:
            return 0
        hidden = lake.storage.hidden()
        lake.fence(table)
        # Where others write too, a file that no commit names may be about to be committed.
        orphans = not lake.storage.is_shared
        gone = table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=orphans)
        unreferenced = lake.storage.erase_unreferenced(_referenced(table), hidden)
    with lake.changing() as table:
        if table is not None:
            table.create_checkpoint()
            lake.storage.begin_log(table.version())
    lake.storage.erase_old_versions()
    return len(gone) + unreferenced


def _rewrite(lake: Lake, chosen: pc.Expression, made: Changed) -> int:
    days = sorted(lake.read(["day"], chosen, with_erased=True)["day"].unique().to_pylist())
    return sum(lake.rewrite(functools.partial(_rewrite_day, day=day, chosen=chosen, made=made)) for day in days)


def _referenced(table: DeltaTable) -> frozenset[str]:
    return frozenset(pa.table(table.get_add_actions(flatten=True))["path"].to_pylist())


def _rewrite_day(table: DeltaTable, day: str, chosen: pc.Expression, made: Changed) -> int:
    rows = table.to_pyarrow_dataset().filter(pc.field("day") == day)
    count: int = rows.filter(chosen).count_rows()
    if count == 0:  # Gone since the day was looked for.
        return 0
    batches = _made(rows, chosen, made)
    first = next(batches, None)
    commit, predicate = CommitProperties(max_commit_retries=0), f"day = '{day}'"
    if first is None:
        table.delete(predicate, commit_properties=commit)
        return count
    write_deltalake(
        table,
        pa.RecordBatchReader.from_batches(STORED, chain([first], batches)),
        mode="overwrite",
        predicate=predicate,
        writer_properties=ENCODING,
        commit_properties=commit,
    )
    return count


def _made(rows: ds.Dataset, chosen: pc.Expression, made: Changed) -> Iterator[pa.RecordBatch]:
    """Yield what a day's rows become, a batch at a time."""
    surely = pc.coalesce(chosen, pc.scalar(False))
    for batch in rows.to_batches(columns=STORED.names, batch_size=BATCH_ROWS):
        table = pa.Table.from_batches([batch]).cast(STORED)
        picked = table.filter(surely)
        left = table if picked.num_rows == 0 else pa.concat_tables([table.filter(~surely), made(picked)])
        yield from left.combine_chunks().to_batches()


def _hashed_anew(before: pa.Table, after: pa.Table) -> pa.Table:
    known = before[ROW_HASH].combine_chunks()
    sound = pc.fill_null(pc.equal(known, row_hashes(before)), False)
    hashes = pc.if_else(sound, row_hashes(after), known)
    return after.set_column(STORED.get_field_index(ROW_HASH), STORED.field(ROW_HASH), hashes)
