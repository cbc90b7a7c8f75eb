"""The ingester: the one process that moves finished requests from the spool's segments into the lake.

It keeps no state of its own. How far a slot's stream got stands in the lake, in the same commit as the rows; which
requests are under way follows from reading the segments that are still there, so a segment goes only when every
request begun in it has ended, oldest first. A kill at any point therefore neither loses nor doubles a row.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError

from gateway.ledger import fingerprint
from gateway.ledger.configuration import IngesterSettings
from gateway.ledger.durable import sync_path
from gateway.ledger.errors import Forbidden, LedgerError, SpoolUnavailable
from gateway.ledger.frames import Frame, Kind, read_segment
from gateway.ledger.lake import SMALL_FILES, Lake
from gateway.ledger.spool import SpoolWriter, segments, slots, stream_of
from gateway.ledger.traffic import to_table

logger = logging.getLogger(__name__)

Finish = Callable[[dict[str, Any]], dict[str, Any]]

# At most this many frames become one commit, so that memory stays flat however far behind the lake is.
BATCH_FRAMES = 10_000
_COUNTED_FRAMES = 100_000


@dataclass(frozen=True)
class Lag:
    """How far the lake is behind the spool: frames not read yet (at most 100,000), their bytes, and for how long."""

    frames: int
    bytes: int
    seconds: float


@dataclass
class _Stream:
    """What was read of one slot's stream: where reading goes on, and the requests under way with their segments."""

    folder: Path
    name: str
    committed: int
    finish: Finish
    segment: Path | None = None
    offset: int = 0
    last_frame: int = 0
    under_way: dict[int, tuple[dict[str, Any], Path]] = field(default_factory=dict)
    unsynced: set[Path] = field(default_factory=set)
    damaged: set[Path] = field(default_factory=set)
    damaged_bytes: int = 0
    drained_at: float = field(default_factory=time.monotonic)

    def poll(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Read on, at most `limit` frames; return the rows they make and how many frames there were."""
        rows: list[dict[str, Any]] = []
        found = segments(self.folder)
        count = 0
        for path in found:
            if self.segment is not None and path.name < self.segment.name:
                continue
            if path != self.segment:
                self.segment, self.offset = path, 0
            self.unsynced.add(path)
            for frame in islice(read_segment(path, self.offset), limit - count):
                rows += self._take(frame, path)
                self.offset = frame.end
                count += 1
            if count >= limit:
                return rows, count
            if path != found[-1]:
                self._report_tail(path)
        self.drained_at = time.monotonic()
        return rows, count

    def unread(self) -> tuple[int, int]:
        """Return how many frames and bytes wait to be read."""
        frames = total = 0
        for path in segments(self.folder):
            if self.segment is not None and path.name < self.segment.name:
                continue
            offset = self.offset if path == self.segment else 0
            try:
                total += max(0, path.stat().st_size - offset)
                frames += sum(1 for _frame in islice(read_segment(path, offset), _COUNTED_FRAMES - frames))
            except FileNotFoundError:  # Ingested and deleted since it was listed: nothing waits in it.
                continue
        return frames, total

    def sync(self) -> None:
        """Sync what was read, names too: no row may be surer of its disk than the frame that its number comes from."""
        for path in (*self.unsynced, self.folder):
            sync_path(path)
        self.unsynced.clear()

    def clean(self) -> None:
        """Delete the oldest segments that hold nothing the lake lacks; keep those with damaged bytes as `.torn`."""
        needed = {path for _record, path in self.under_way.values()}
        for path in segments(self.folder)[:-1]:
            if self.segment is None or path.name >= self.segment.name or path in needed:
                return
            self.unsynced.discard(path)
            if path in self.damaged:
                path.rename(path.with_suffix(".torn"))
            else:
                path.unlink()

    def _take(self, frame: Frame, path: Path) -> list[dict[str, Any]]:
        if frame.kind is Kind.DAMAGED:
            self._report(path, frame.record["at"], frame.record["bytes"])
            return []
        self.last_frame = frame.frame
        if frame.kind is Kind.START:
            self.under_way[frame.number] = (frame.record, path)
            return []
        if frame.kind is Kind.FINAL:
            self.under_way.pop(frame.number, None)
            rows = [self._row(frame.record, frame.number)]
        else:
            rows = self._interrupted() if frame.record.get("opened") else []
        return rows if frame.frame > self.committed else []

    def _interrupted(self) -> list[dict[str, Any]]:
        # A new writer holds the slot, so the one that began these requests is gone.
        ended, self.under_way = self.under_way, {}
        return [self._row(_as_interrupted(record), number) for number, (record, _path) in ended.items()]

    def _row(self, record: dict[str, Any], number: int) -> dict[str, Any]:
        return {**fingerprint.complete(self.finish(record)), "spool_stream": self.name, "spool_number": number}

    def _report_tail(self, path: Path) -> None:
        tail = path.stat().st_size - self.offset
        if tail > 0 and path not in self.damaged:
            self._report(path, self.offset, tail)

    def _report(self, path: Path, at: int, size: int) -> None:
        self.damaged.add(path)
        self.damaged_bytes += size
        logger.warning("%s: %d damaged bytes at offset %d were passed over; the file is kept as .torn", path, size, at)


class Ingester:
    """Moves the spool of one `data_dir` into its lake. `Forbidden` when another ingester does so already.

    `finish` makes the documented form of a record as the gateway wrote it. `rows` and `failures` count what was
    committed and how often a try failed since it began.
    """

    def __init__(self, settings: IngesterSettings, finish: Finish) -> None:
        self._finish = finish
        self._directory = settings.data_dir / "spool"
        self._interval_s = settings.spool.ingest_interval_s
        self._lake = Lake(settings.data_dir / "lake" / "traffic")
        self._streams: dict[str, _Stream] = {}
        self._sound = False
        self._commits_until_tidy = 0
        self.rows = self.failures = 0
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._directory / "ingester.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._release = weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise Forbidden(
                f"an ingester of {settings.data_dir} runs already: let it do the work, or stop it"
            ) from None

    def run(self, stop: threading.Event) -> None:
        """Ingest until told to stop, and once more then; a lake or disk that fails is tried again, with pauses."""
        pause = self._interval_s
        while not stop.is_set():
            try:
                more = self._poll()[1]
                pause = self._interval_s
            except (OSError, DeltaError, pa.ArrowException, LedgerError) as error:
                self.failures += 1
                logger.error("can't ingest, nothing is lost and it is tried again: %s", error)
                more, pause = False, min(pause * 2, 30.0)
            if not more:
                stop.wait(pause)
        self.run_once()

    def run_once(self) -> int:
        """Ingest what the spool holds now and return how many rows were committed."""
        total, more = 0, True
        while more:
            rows, more = self._poll()
            total += rows
        return total

    def lag(self) -> Lag:
        """Return how far the lake is behind."""
        frames = total = 0
        since = time.monotonic()
        for folder in slots(self._directory):
            stream = self._streams.get(folder.name) or _Stream(folder, "", 0, self._finish)
            waiting, size = stream.unread()
            frames, total = frames + waiting, total + size
            since = min(since, stream.drained_at) if size else since
        return Lag(frames, total, round(time.monotonic() - since, 3) if total else 0.0)

    def damaged_bytes(self) -> int:
        """Return how many damaged bytes were passed over in the segments that were read since it began."""
        return sum(stream.damaged_bytes for stream in self._streams.values())

    def close(self) -> None:
        """Let another ingester take over."""
        self._release()

    def _poll(self) -> tuple[int, bool]:
        try:
            self._repair_once()
            with _no_search_for_cycles():
                rows, marks, more = self._read()
                if rows:
                    self._commit(rows, marks)
            closed = self._close_dead_slots()
            for stream in self._streams.values():
                stream.clean()
        except Exception:
            # What was read may or may not be in the lake: begin again from what it says.
            self._streams.clear()
            self._sound = False
            raise
        return len(rows), more or closed

    def _repair_once(self) -> None:
        if not self._sound:
            self._lake.repair()
            self._sound = True

    def _close_dead_slots(self) -> bool:
        closed = False
        for stream in self._streams.values():
            if stream.under_way:
                try:
                    # Opening the slot as a writer says that the last one is gone; while it lives, this is refused.
                    SpoolWriter(self._directory, stream.folder.name, wait_s=0).close()
                    closed = True
                except SpoolUnavailable:
                    continue
        return closed

    def _read(self) -> tuple[list[dict[str, Any]], dict[str, int], bool]:
        rows: list[dict[str, Any]] = []
        marks: dict[str, int] = {}
        more = False
        folders = slots(self._directory)
        for folder in folders:
            stream = self._stream(folder)
            share = max(1, BATCH_FRAMES // len(folders))
            made, count = stream.poll(share)
            more |= count >= share
            if made:
                stream.sync()
                rows += made
                marks[stream.name] = stream.last_frame
        return rows, marks, more

    def _stream(self, folder: Path) -> _Stream:
        name = stream_of(folder) or ""
        known = self._streams.get(folder.name)
        if known is None or known.name != name:
            known = _Stream(folder, name, self._lake.last_transaction(name) or 0, self._finish)
            self._streams[folder.name] = known
        return known

    def _commit(self, rows: list[dict[str, Any]], marks: dict[str, int]) -> None:
        # spool_stream and spool_number are columns of the lake, not fields of the record.
        streams = pa.array([row.pop("spool_stream") for row in rows], pa.string())
        numbers = pa.array([row.pop("spool_number") for row in rows], pa.int64())
        table = to_table(rows).append_column("spool_stream", streams).append_column("spool_number", numbers)
        self._lake.append(table, marks)
        self.rows += len(rows)
        for name, last_frame in marks.items():
            next(stream for stream in self._streams.values() if stream.name == name).committed = last_frame
        self._commits_until_tidy -= 1
        if self._commits_until_tidy <= 0:
            self._commits_until_tidy = SMALL_FILES
            self._lake.tidy()


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Spare a batch the search for cycles among its records, which have none: it costs as much as reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _as_interrupted(record: dict[str, Any]) -> dict[str, Any]:
    model = record.get("model") or record.get("model_requested")
    return {"origin": "live", **record, "model": model, "status": 0, "error": "interrupted"}
