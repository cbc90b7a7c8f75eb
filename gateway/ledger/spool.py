"""The spool: one append-only series of segment files per worker slot, where records stand until the lake has them.

A frame is written with one `os.write`, so that a killed process loses nothing it had acknowledged. A thread syncs the
file every `group_commit_s`, which is what a power cut can cost at most, and at once for whoever hands a call-back to
`final`: all who do so while a sync runs share the next. Nothing else syncs once a writer is open. A slot's folder:

    lock                      held (flock) by the slot's one writer
    stream                    the slot's identity, new when the folder is: frame numbers count within it
    <first frame number>.seg  segments, the newest being written
    *.torn                    segments with damaged bytes, kept for people to look at

Frame and record numbers go on where the last segment ended, so that a gap or a double can be seen (`frames.py`).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.ledger.durable import sync_path
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.frames import Frame as Frame
from gateway.ledger.frames import Kind, encode
from gateway.ledger.frames import read_segment as read_segment
from gateway.ledger.identifiers import now, to_rfc3339

logger = logging.getLogger(__name__)

# Told, in the spool's thread, that a record is on the disk (None), or why it may not be.
OnSynced = Callable[[SpoolUnavailable | None], None]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0  # between two tries of a disk that could not be synced


class SpoolWriter:
    """The one writer of a slot. Every method is safe between threads and raises `SpoolUnavailable` with the remedy.

    `has_room` is asked before a record that was not begun: within the disk budget it says yes. `sync_failures` counts.
    """

    def __init__(
        self,
        directory: Path,
        slot: str,
        *,
        segment_bytes: int = 64 * 1024 * 1024,
        group_commit_s: float = 0.05,
        wait_s: float = 5.0,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._folder = directory / slot
        self._segment_bytes, self._group_commit_s, self._has_room = segment_bytes, group_commit_s, has_room
        self._mutex, self._syncing = threading.Lock(), threading.Lock()
        self._under_way: dict[str, int] = {}
        self._descriptor: int | None = None
        self._retired: list[int] = []
        self._waiting: list[OnSynced] = []
        self._has_new_names = False
        self._failure: OSError | None = None
        self._size = 0
        self._dirty, self._urgent, self._stopping = threading.Event(), threading.Event(), threading.Event()
        self.sync_failures = 0
        try:
            _make_folder(self._folder)
            self._lock = _lock_slot(self._folder, wait_s)
        except OSError as error:
            raise _unavailable(self._folder, error) from error
        try:
            self.stream = stream_of(self._folder) or _new_stream(self._folder)
            self._frame, self._number = _last_counters(self._folder)
            # What a killed writer had not synced yet, nobody else would.
            self._retired = [os.open(path, os.O_RDONLY) for path in segments(self._folder)[-2:]]
            self._open_segment(opened=True)
        except OSError as error:
            for descriptor in (self._lock, *self._retired):
                os.close(descriptor)
            raise _unavailable(self._folder, error) from error
        self._dirty.set()
        self._thread = threading.Thread(target=self._sync_periodically, name=f"spool-{slot}", daemon=True)
        self._thread.start()

    def start(self, record: Mapping[str, Any]) -> None:
        """Write that a request is under way (at least its id, time, account and endpoint), before it is forwarded."""
        with self._mutex:
            self._check_room()
            number = self._number + 1
            self._write(Kind.START, number, record)
            self._number = number
            self._under_way[record["id"]] = number

    def final(self, record: Mapping[str, Any], on_synced: OnSynced | None = None) -> None:
        """Write a finished request; when this returns, a kill of the process does not lose it.

        `on_synced` is called in another thread once a power cut does not lose it either, or with why that is not sure.
        """
        with self._mutex:
            number = self._under_way.get(record["id"])
            if number is None:
                self._check_room()
                number = self._number + 1
            self._write(Kind.FINAL, number, record)
            self._number = max(self._number, number)
            self._under_way.pop(record["id"], None)
            if on_synced is not None:
                self._waiting.append(on_synced)
                self._urgent.set()

    def check(self) -> None:
        """Raise what `start` would raise now for want of room or of a disk that can be synced."""
        with self._mutex:
            self._check_room()
            self._check_disk()

    def sync(self) -> None:
        """Sync what was written to the disk."""
        # Only this method closes segments, one thread at a time, so that none is closed while it is synced.
        with self._syncing:
            with self._mutex:
                retired, self._retired = self._retired, []
                waiting, self._waiting = self._waiting, []
                current, has_new_names = self._descriptor, self._has_new_names
                self._has_new_names = False
            error = _sync_all(retired, current, self._folder if has_new_names else None)
            told = None if error is None else _unavailable(self._folder, error)
            for on_synced in waiting:
                on_synced(told)
        if error is not None:
            raise error

    def close(self) -> None:
        """Sync, and leave the slot to the next writer; requests still under way will be shown as interrupted."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._dirty.set()
        self._urgent.set()
        self._thread.join()
        with self._mutex:
            if self._descriptor is not None:
                self._retired.append(self._descriptor)
                self._descriptor = None
        try:
            self.sync()
        except OSError as error:
            raise _unavailable(self._folder, error) from error
        finally:
            os.close(self._lock)

    def _write(self, kind: Kind, number: int, record: Mapping[str, Any]) -> None:
        if self._stopping.is_set():
            raise SpoolUnavailable(f"the spool {self._folder} is closed: its process is stopping, ask another worker")
        self._check_disk()
        data = encode(kind, self._frame + 1, number, record)
        try:
            if self._descriptor is None or self._size + len(data) > self._segment_bytes:
                self._open_segment(opened=False)
                data = encode(kind, self._frame + 1, number, record)
            self._append(data)
        except OSError as error:
            raise _unavailable(self._folder, error) from error
        self._frame += 1
        if not self._dirty.is_set():
            self._dirty.set()

    def _check_room(self) -> None:
        if not self._has_room():
            raise SpoolUnavailable(
                "spool and lake have used up their disk budget: raise spool.budget_bytes, remove what may go, "
                'or set gateway.on_spool_failure = "serve" to go on unrecorded'
            )

    def _check_disk(self) -> None:
        if self._failure is not None:
            raise _unavailable(self._folder, self._failure) from self._failure

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        written = os.write(self._descriptor, data)
        if written < len(data):
            # A full disk took the frame's beginning only. Without it the segment is whole again and goes on as soon as
            # there is space; should that fail too, the segment is left to its reader as torn.
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError:
                self._retire()
                raise
            raise OSError(errno.ENOSPC, "the disk is full")
        self._size += written

    def _open_segment(self, *, opened: bool) -> None:
        path = self._folder / f"{self._frame + 1:020d}.seg"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        head = {"format": 1, "opened": opened, "pid": os.getpid(), "time": to_rfc3339(now())}
        data = encode(Kind.HEAD, self._frame + 1, self._number, head)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        self._retire()
        self._descriptor, self._size = descriptor, len(data)
        self._has_new_names = True
        self._frame += 1

    def _retire(self) -> None:
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
            self._descriptor = None
            self._dirty.set()

    def _sync_periodically(self) -> None:
        while not self._stopping.is_set():
            self._dirty.wait()
            self._urgent.wait(self._group_commit_s)
            self._urgent.clear()
            self._dirty.clear()
            try:
                self.sync()
            except OSError as error:
                self._recover(error)

    def _recover(self, error: OSError) -> None:
        """Take no record until a new file can be synced: what the kernel could not write, it may have dropped."""
        logger.error("can't sync the spool %s: %s; a power cut may lose its newest records", self._folder, error)
        pause = _FIRST_PAUSE_S
        self._fail(error)
        while self._failure is not None and not self._stopping.wait(pause):
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            try:
                with self._mutex:
                    self._open_segment(opened=False)
                self.sync()
            except OSError as again:
                self._fail(again)
            else:
                logger.warning("the spool %s can be synced again", self._folder)
                self._failure = None

    def _fail(self, error: OSError) -> None:
        self.sync_failures += 1
        with self._mutex:
            self._failure = error
            self._retire()


def segments(folder: Path) -> list[Path]:
    """Return a slot's segments, oldest first."""
    return sorted(folder.glob("*.seg"))


def slots(directory: Path) -> list[Path]:
    """Return the folders of all slots below the spool's directory."""
    return sorted(path.parent for path in directory.glob("*/stream"))


def stream_of(folder: Path) -> str | None:
    """Return the identity of a slot's series of frames, such as `w0-1f2e3d4c`; None where there is none yet."""
    try:
        return (folder / "stream").read_text().strip() or None
    except FileNotFoundError:
        return None


def _last_counters(folder: Path) -> tuple[int, int]:
    for path in reversed(segments(folder)):
        frames = [frame for frame in read_segment(path) if frame.kind is not Kind.DAMAGED]
        if frames:
            return max(frame.frame for frame in frames), max(frame.number for frame in frames)
        # Its writer died before the head was whole, so nothing in it was ever acknowledged.
        path.rename(path.with_suffix(".torn"))
    return 0, 0


def _lock_slot(folder: Path, wait_s: float) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise SpoolUnavailable(
                    f"slot {folder.name} is in use by another process: stop that one, or choose another --slot"
                ) from None
            time.sleep(0.01)


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A file is no surer of its disk than the names that lead to it.
    for path in (folder.parent, folder.parent.parent):
        sync_path(path)


def _new_stream(folder: Path) -> str:
    stream = f"{folder.name}-{uuid.uuid4().hex[:8]}"
    descriptor = os.open(folder / "stream.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, stream.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(folder / "stream.new", folder / "stream")
    sync_path(folder)
    return stream


def _sync_all(retired: list[int], current: int | None, folder: Path | None) -> OSError | None:
    """Sync and close the retired files, sync the current one and the folder; return the first error, having tried all.

    The oldest goes first: what is on the disk is then what was written first.
    """
    first: OSError | None = None
    for descriptor in [*retired, *([] if current is None else [current])]:
        try:
            os.fsync(descriptor)
        except OSError as error:
            first = first or error
        finally:
            if descriptor != current:
                os.close(descriptor)
    try:
        if folder is not None:
            sync_path(folder)
    except OSError as error:
        first = first or error
    return first


def _unavailable(folder: Path, error: OSError) -> SpoolUnavailable:
    return SpoolUnavailable(
        f"the spool {folder} can't take a record ({error.strerror or error}): free disk space or mend its permissions, "
        'or set gateway.on_spool_failure = "serve" to go on unrecorded'
    )
