"""`traffic verify`: does the lake hold every finished request of every worker slot, once?

A slot numbers its requests 1, 2, 3, …; each number must be one row of the lake (finished, or shown as interrupted),
or still wait in the spool, or be under way. Anything else is lost or doubled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gateway.ledger.configuration import Place
from gateway.ledger.frames import Kind, read_segment
from gateway.ledger.lake import STORED, Lake
from gateway.ledger.spool import segments, slots, stream_of

logger = logging.getLogger(__name__)

_SHOWN = 20
_COLUMNS = ("spool_stream", "spool_number", "status", "error")


@dataclass(frozen=True)
class SlotReport:
    """What became of a slot's requests.

    `completed`: finished ones, of which `recorded` are in the lake and `waiting` still in the spool. `missing` and
    `doubled`: record numbers (the first 20; the counts are exact). `damaged`: bytes that no frame could be read from.
    """

    stream: str
    completed: int
    recorded: int
    waiting: int
    interrupted: int
    under_way: int
    missing: int
    missing_numbers: list[int]
    doubled: int
    doubled_numbers: list[int]
    damaged: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost and nothing doubled."""
        return self.missing == 0 and self.doubled == 0


@dataclass(frozen=True)
class _Spooled:
    """What the spool holds of a stream: numbers begun and finished in it, the highest given out, damaged bytes."""

    begun: NDArray[np.int64]
    finished: NDArray[np.int64]
    highest: int
    damaged: int


def verify(settings: Place) -> list[SlotReport]:
    """Compare spool and lake for every stream that either knows. Right while gateway and ingester run."""
    # The spool is read first: a frame that moves to the lake in the meantime is then seen twice, never missed.
    spooled = {stream_of(folder) or folder.name: _read_spool(folder) for folder in slots(settings.data_dir / "spool")}
    lake = Lake.of(settings)
    recorded = _read_lake(lake)
    # Read last: a number is noted before its row goes, so that none is in neither place.
    removed = lake.storage.removed()
    nothing = np.empty(0, np.int64)
    return [
        _compare(stream, spooled.get(stream), *recorded.get(stream, (nothing, nothing)), removed.get(stream, nothing))
        for stream in sorted(spooled.keys() | recorded.keys())
    ]


def _compare(
    stream: str,
    spool: _Spooled | None,
    finished_rows: NDArray[np.int64],
    interrupted_rows: NDArray[np.int64],
    removed: NDArray[np.int64],
) -> SlotReport:
    rows, counts = np.unique(np.concatenate((finished_rows, interrupted_rows)), return_counts=True)
    doubled = rows[counts > 1]
    finished, begun, highest, damaged = finished_rows, rows, int(rows.max(initial=0)), 0
    waiting = under_way = 0
    if spool is not None:
        kept = np.union1d(rows, removed)
        waiting = int(np.setdiff1d(spool.finished, kept).size)
        finished = np.union1d(finished_rows, np.setdiff1d(spool.finished, removed))
        begun = np.union1d(rows, np.union1d(spool.begun, spool.finished))
        under_way = int(np.setdiff1d(spool.begun, np.union1d(kept, spool.finished)).size)
        # Numbers given out since the spool was read may be in neither place yet.
        highest, damaged = spool.highest, spool.damaged
    # What retention or an erasure took is neither missing nor under way, and no longer counted.
    missing = np.setdiff1d(np.arange(1, highest + 1), np.union1d(begun, removed))
    return SlotReport(
        stream=stream,
        completed=int(np.unique(finished).size),
        recorded=int(np.unique(finished_rows).size),
        waiting=waiting,
        interrupted=int(np.unique(interrupted_rows).size),
        under_way=under_way,
        missing=int(missing.size),
        missing_numbers=missing[:_SHOWN].tolist(),
        doubled=int(doubled.size),
        doubled_numbers=doubled[:_SHOWN].tolist(),
        damaged=damaged,
    )


def _read_spool(folder: Path) -> _Spooled:
    numbers: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    damaged = sum(path.stat().st_size for path in folder.glob("*.torn"))
    paths = segments(folder)
    for path in paths:
        end = 0
        try:
            for frame in read_segment(path):
                numbers[frame.kind].append(frame.number)
                damaged += frame.record["bytes"] if frame.kind is Kind.DAMAGED else 0
                end = frame.end
            if path != paths[-1]:
                damaged += path.stat().st_size - end
        except FileNotFoundError:  # Ingested and deleted since it was listed: its rows are in the lake.
            continue
    highest = max((number for found in numbers.values() for number in found), default=0)
    begun, finished = (np.array(numbers[kind], np.int64) for kind in (Kind.START, Kind.FINAL))
    return _Spooled(begun, finished, highest, damaged)


def _read_lake(lake: Lake) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    while (found := _numbered(lake)) is None:
        continue
    rows = pa.Table.from_batches(found, pa.schema([STORED.field(name) for name in _COLUMNS]))
    interrupted = (rows["status"].to_numpy() == 0) & (rows["error"].fill_null("").to_numpy() == "interrupted")
    numbers, streams = rows["spool_number"].to_numpy(), rows["spool_stream"].combine_chunks().dictionary_encode()
    codes = streams.indices.to_numpy()
    return {
        stream: (numbers[(codes == code) & ~interrupted], numbers[(codes == code) & interrupted])
        for code, stream in enumerate(streams.dictionary.to_pylist())
    }


def _numbered(lake: Lake) -> list[pa.RecordBatch] | None:
    """Read the numbered rows of one version, None where files of it were erased meanwhile."""
    found: list[pa.RecordBatch] = []
    for path, batches in lake.files(_COLUMNS):
        try:
            found += [batch.filter(pc.field("spool_stream").is_valid()) for batch in batches]
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, FileNotFoundError) and not lake.has_file(path):
                return None
            # What stood in it is missing below; hashing the rows again says which file that was.
            logger.error("%s can't be read: %s", path, error)
    return found
