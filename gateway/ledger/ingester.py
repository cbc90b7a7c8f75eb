"""The ingester: the one process that moves finished requests from the spool's segments into the lake.

It keeps no state of its own. How far a slot's stream got stands in the lake, in the same commit as the rows; which
requests are under way follows from reading the segments that are still there, so a segment goes only when every
request begun in it has ended and is in the lake, oldest first. A kill at any point therefore neither loses nor doubles
a row. One thread reads and makes columns, another commits what was read before, in the same order.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from deltalake.exceptions import DeltaError

from gateway.ledger.configuration import IngesterSettings
from gateway.ledger.decoding import Decoded, Decoders, Finish, decode
from gateway.ledger.durable import sync_path
from gateway.ledger.errors import Forbidden, LedgerError, SpoolUnavailable
from gateway.ledger.frames import Kind, Sealed, Unreadable, count_frames, payload_of, record_of, scan_segment
from gateway.ledger.lake import SMALL_FILES, Lake
from gateway.ledger.spool import SpoolWriter, segments, slots, stream_of

logger = logging.getLogger(__name__)

Submit = Callable[[Sequence[bytes]], "Future[Decoded]"]

# So much becomes one commit at most, so that memory stays flat however far behind the lake is.
BATCH_FRAMES, BATCH_BYTES = 50_000, 64 * 1024 * 1024
_CHUNK = 2_000  # records become columns together: more only leave the processor's caches
_COUNTED_FRAMES = 100_000
# A decoder takes most of a second to begin: for a backlog that is worth it, and then until there was none for a while.
_BACKLOG_BYTES, _SHARED_BYTES, _REST_S = 64 * 1024 * 1024, 4 * 1024 * 1024, 60.0
_SWITCH_S = 0.0005


@dataclass(frozen=True)
class Lag:
    """How far the lake is behind the spool: frames not read yet (at most 100,000), their bytes, and for how long."""

    frames: int
    bytes: int
    seconds: float


class _Batch:
    """What becomes one commit: its rows, how far they bring each stream, what to sync before and to delete after it."""

    def __init__(self, submit: Submit) -> None:
        self.marks: dict[str, int] = {}
        self.unsynced: set[Path] = set()
        self.spent: list[tuple[_Stream, Path]] = []
        self.more = False
        self._submit = submit
        self._frames: list[tuple[Sealed, _Stream, Path]] = []
        self._parts: list[tuple[list[tuple[Sealed, _Stream, Path]], Future[Decoded]]] = []

    def add(self, frame: Sealed, stream: _Stream, path: Path) -> None:
        """Take a finished request's frame."""
        self._frames.append((frame, stream, path))
        if len(self._frames) == _CHUNK:
            self._hand_over()

    def table(self) -> pa.Table:
        """Return all rows."""
        if self._frames or not self._parts:
            self._hand_over()
        parts, self._parts = self._parts, []
        return pa.concat_tables([_rows(frames, decoded.result()) for frames, decoded in parts])

    def _hand_over(self) -> None:
        frames, self._frames = self._frames, []
        self._parts.append((frames, self._submit([frame.payload for frame, _stream, _path in frames])))


def _rows(frames: list[tuple[Sealed, _Stream, Path]], decoded: Decoded) -> pa.Table:
    """Return the rows with their places; a frame that nobody can read is damage."""
    for position in reversed(decoded.unreadable):
        frame, stream, path = frames.pop(position)
        stream.report(path, frame.begin, frame.end - frame.begin)
    streams = pa.array([stream.name for _frame, stream, _path in frames], pa.string())
    numbers = pa.array([frame.number for frame, _stream, _path in frames], pa.int64())
    return decoded.rows.append_column("spool_stream", streams).append_column("spool_number", numbers)


@dataclass
class _Stream:
    """What was read of one slot's stream: where reading goes on, and the requests under way with their segments."""

    folder: Path
    name: str
    committed: int
    segment: Path | None = None
    offset: int = 0
    last_frame: int = 0
    under_way: dict[int, tuple[Sealed, Path]] = field(default_factory=dict)
    unsynced: set[Path] = field(default_factory=set)
    damaged: set[Path] = field(default_factory=set)
    damaged_bytes: int = 0
    drained_at: float = field(default_factory=time.monotonic)

    def poll(self, batch: _Batch, frames: int, size: int) -> None:
        """Read on, at most so many frames and hardly more bytes; `batch.more` says that there are more."""
        found = segments(self.folder)
        made = False
        for path in found:
            if self.segment is not None and path.name < self.segment.name:
                continue
            if path != self.segment:
                self.segment, self.offset = path, 0
            self.unsynced.add(path)
            begin = self.offset
            for frame in scan_segment(path, begin):
                for ended, its_path in self._take(frame, path):
                    batch.add(ended, self, its_path)
                    made = True
                self.offset = frame.end
                frames -= 1
                if frames == 0 or self.offset - begin >= size:
                    break
            size -= self.offset - begin
            if frames == 0 or size <= 0:
                batch.more = True
                break
            if path != found[-1]:
                self._report_tail(path)
        else:
            self.drained_at = time.monotonic()
        if made:
            # No row may be surer of its disk than the frame that its number comes from, names too.
            batch.marks[self.name] = self.last_frame
            batch.unsynced |= {*self.unsynced, self.folder}
            self.unsynced.clear()
        batch.spent += self._spent(found)

    def unread_bytes(self) -> int:
        """Return how many bytes wait to be read."""
        return sum(max(0, path.stat().st_size - offset) for path, offset in self._unread())

    def unread(self) -> tuple[int, int]:
        """Return how many frames and bytes wait to be read."""
        frames = total = 0
        for path, offset in self._unread():
            try:
                total += max(0, path.stat().st_size - offset)
                frames += count_frames(path, offset, _COUNTED_FRAMES - frames)
            except FileNotFoundError:  # Ingested and deleted since it was listed: nothing waits in it.
                continue
        return frames, total

    def _unread(self) -> Iterator[tuple[Path, int]]:
        """Yield the segments that are not read up, and how far they are."""
        for path in segments(self.folder):
            if self.segment is None or path.name >= self.segment.name:
                yield path, self.offset if path == self.segment else 0

    def report(self, path: Path, at: int, size: int) -> None:
        """Say that bytes make no sense; their segment will be kept."""
        self.damaged.add(path)
        self.damaged_bytes += size
        logger.warning("%s: %d damaged bytes at offset %d were passed over; the file is kept as .torn", path, size, at)

    def _spent(self, found: list[Path]) -> list[tuple[_Stream, Path]]:
        """Return the oldest segments, as far as all that was begun in them has been read to its end."""
        needed = {path for _frame, path in self.under_way.values()}
        spent = []
        for path in found[:-1]:
            if self.segment is None or path.name >= self.segment.name or path in needed:
                break
            self.unsynced.discard(path)
            spent.append((self, path))
        return spent

    def _take(self, frame: Sealed, path: Path) -> list[tuple[Sealed, Path]]:
        if frame.kind is Kind.DAMAGED:
            self.report(path, frame.begin, frame.end - frame.begin)
            return []
        self.last_frame = frame.frame
        if frame.kind is Kind.START:
            self.under_way[frame.number] = (frame, path)
            return []
        if frame.kind is Kind.FINAL:
            self.under_way.pop(frame.number, None)
            ended = [(frame, path)]
        else:
            ended = self._interrupted() if self._opens(frame, path) else []
        return ended if frame.frame > self.committed else []

    def _opens(self, head: Sealed, path: Path) -> bool:
        try:
            return bool(record_of(head.payload).get("opened"))
        except Unreadable:
            self.report(path, head.begin, head.end - head.begin)
            return False

    def _interrupted(self) -> list[tuple[Sealed, Path]]:
        # A new writer holds the slot, so the one that began these requests is gone.
        ended, self.under_way = self.under_way, {}
        return [(_as_interrupted(frame), path) for frame, path in ended.values()]

    def _report_tail(self, path: Path) -> None:
        tail = path.stat().st_size - self.offset
        if tail > 0 and path not in self.damaged:
            self.report(path, self.offset, tail)


class Ingester:
    """Moves the spool of one `data_dir` into its lake. `Forbidden` when another ingester does so already.

    `finish` makes the documented form of a record as the gateway wrote it. `rows`, `failures`, `conflicts` and
    `lost_decoders` count what was committed, how often a try failed, how often another machine's commit came first, and
    decoders that died or hung, since it began.
    """

    def __init__(self, settings: IngesterSettings, finish: Finish) -> None:
        self._finish = finish
        self._directory = settings.data_dir / "spool"
        self._interval_s = settings.spool.ingest_interval_s
        self._lake = Lake.of(settings)
        self._streams: dict[str, _Stream] = {}
        self._sound = False
        self._committer = ThreadPoolExecutor(1, "ingester-commits")
        self._decoder_count = settings.spool.decoders
        self._decoders: Decoders | None = None
        self._backlog_at = 0.0
        self._commit_under_way: Future[int] | None = None
        self._commit_began: float | None = None
        self._taken: dict[str, int] = {}  # how far the lake has each stream, as far as is known here
        self._commits_until_tidy = 0
        self.rows = self.failures = 0
        self._lost_decoders: list[None] = []  # appended to by the threads that wait for them
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
            stream = self._streams.get(folder.name) or _Stream(folder, "", 0)
            waiting, size = stream.unread()
            frames, total = frames + waiting, total + size
            since = min(since, stream.drained_at) if size else since
        return Lag(frames, total, round(time.monotonic() - since, 3) if total else 0.0)

    def committing_s(self) -> float:
        """Return for how many seconds the commit that is under way has been; 0 where none is."""
        began = self._commit_began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def conflicts(self) -> int:
        """How many commits were made again because another machine's came first."""
        return self._lake.conflicts

    @property
    def lost_decoders(self) -> int:
        """How many decoders died or were killed because they hung."""
        return len(self._lost_decoders)

    def damaged_bytes(self) -> int:
        """Return how many damaged bytes were passed over in the segments that were read since it began."""
        return sum(stream.damaged_bytes for stream in self._streams.values())

    def close(self) -> None:
        """Let another ingester take over."""
        self._committer.shutdown()
        self._end_decoders()
        self._release()

    def _poll(self) -> tuple[int, bool]:
        """Read a batch while the one before is committed; return how many rows were, and whether there is more."""
        try:
            self._repair_once()
            with _in_a_hurry():
                batch = self._read()
                table = batch.table()
            rows = self._settle()
            if table.num_rows:
                self._commit_under_way = self._committer.submit(self._commit, batch, table)
            else:
                _delete(batch.spent)
            if batch.more:
                return rows, True
            return rows + self._settle(), self._close_dead_slots()
        except Exception:
            # What was read may or may not be in the lake: begin again from what it says.
            wait([self._commit_under_way] if self._commit_under_way else [])
            self._commit_under_way = None
            self._streams.clear()
            self._sound = False
            raise

    def _settle(self) -> int:
        """Wait for the commit that is under way, raise what it raised, return how many rows it had."""
        under_way, self._commit_under_way = self._commit_under_way, None
        rows = 0 if under_way is None else under_way.result()
        self.rows += rows
        return rows

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

    def _read(self) -> _Batch:
        folders = slots(self._directory)
        streams = [self._stream(folder) for folder in folders]
        batch = _Batch(self._submit_to(sum(stream.unread_bytes() for stream in streams)))
        for stream in streams:
            stream.poll(batch, max(1, BATCH_FRAMES // len(folders)), max(1, BATCH_BYTES // len(folders)))
        return batch

    def _submit_to(self, waiting: int) -> Submit:
        """Return who decodes so many bytes: processes, where it is worth their start or they are there, or this one."""
        if waiting >= _BACKLOG_BYTES and self._decoder_count:
            self._decoders = self._decoders or Decoders(
                self._finish, self._decoder_count, lambda: self._lost_decoders.append(None)
            )
            self._backlog_at = time.monotonic()
        elif self._decoders is not None and time.monotonic() - self._backlog_at > _REST_S:
            self._end_decoders()
        return self._decode_here if self._decoders is None or waiting < _SHARED_BYTES else self._decoders.submit

    def _decode_here(self, payloads: Sequence[bytes]) -> Future[Decoded]:
        future: Future[Decoded] = Future()
        future.set_result(decode(payloads, self._finish))
        return future

    def _end_decoders(self) -> None:
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def _stream(self, folder: Path) -> _Stream:
        name = stream_of(folder) or ""
        known = self._streams.get(folder.name)
        if known is None or known.name != name:
            known = _Stream(folder, name, self._lake.last_transaction(name) or 0)
            self._taken[name] = known.committed
            self._streams[folder.name] = known
        return known

    def _commit(self, batch: _Batch, table: pa.Table) -> int:
        for path in batch.unsynced:
            sync_path(path)
        self._commit_began = time.monotonic()
        try:
            # A commit that was given up may have come through after all: then its rows would come twice.
            self._lake.append(table, batch.marks, {name: self._taken[name] for name in batch.marks})
        finally:
            self._commit_began = None
        self._taken |= batch.marks
        _delete(batch.spent)
        self._commits_until_tidy -= 1
        if self._commits_until_tidy <= 0:
            self._commits_until_tidy = SMALL_FILES
            self._tidy()
        return len(table)

    def _tidy(self) -> None:
        try:
            self._lake.tidy()
        except (OSError, DeltaError, pa.ArrowException, LedgerError) as error:
            # The rows are in the lake; merging files is of no use to them, and is tried again some commits later.
            logger.warning("small files stay as they are for now: %s", error)


def _delete(spent: list[tuple[_Stream, Path]]) -> None:
    """Delete segments that hold nothing the lake lacks; keep those with damaged bytes as `.torn`."""
    for stream, path in spent:
        if path not in stream.damaged:
            path.unlink(missing_ok=True)  # The batch before may have had it among its own.
        elif path.exists():
            path.rename(path.with_suffix(".torn"))


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    """Spare a batch the search for cycles among its records, which have none: it costs as much as reading them.

    The commit beside it needs the interpreter rarely and for little, and gets it at once instead of after 5 ms.
    """
    was_enabled, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if was_enabled:
            gc.enable()


def _as_interrupted(start: Sealed) -> Sealed:
    try:
        record = record_of(start.payload)
    except Unreadable:  # is found to be so when it is decoded
        return start
    model = record.get("model") or record.get("model_requested")
    ended = {"origin": "live", **record, "model": model, "status": 0, "error": "interrupted"}
    return start._replace(payload=payload_of(Kind.FINAL, start.frame, start.number, ended))
