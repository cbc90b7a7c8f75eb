"""A disk that keeps only what was synced: what a power cut leaves of a folder, without cutting the power.

A file's bytes are as sure as its last `fsync`, a name as its folder's: `Disk` notes both as they happen, whoever wrote
the file, and `cut` writes down what a machine would find at its next start. Nothing unsynced survives there; a real
disk may keep some of it, or zeros in its place, which `cut(tail=…)` plays.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Tail = Callable[[bytes], bytes]  # what is found of a file's bytes behind those that were synced


def nothing(_unsynced: bytes) -> bytes:
    """The file ends where it was synced."""
    return b""


def zeros(unsynced: bytes) -> bytes:
    """The new size reached the disk, the bytes did not."""
    return bytes(len(unsynced))


def torn(unsynced: bytes) -> bytes:
    """Half of it got there."""
    return unsynced[: len(unsynced) // 2]


def everything(unsynced: bytes) -> bytes:
    """All of it got there after all."""
    return unsynced


@dataclass
class Disk:
    """The synced state of the files and folders below a root; `threads` are the names of those that synced."""

    root: Path
    threads: list[str] = field(default_factory=list)
    failing: OSError | None = None
    _bytes: dict[int, bytes] = field(default_factory=dict)
    _names: dict[int, dict[str, int]] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def install(self, patch: pytest.MonkeyPatch) -> Disk:
        """Watch every sync of this process."""
        self.root.mkdir(parents=True, exist_ok=True)
        patch.setattr(os, "fsync", self.fsync)
        patch.setattr(os, "fdatasync", self.fsync)
        return self

    def fsync(self, descriptor: int) -> None:
        """Make what stands behind the descriptor survive, or fail as the test wants it."""
        if self.failing is not None:
            raise self.failing
        status = os.fstat(descriptor)
        with self._mutex:
            self.threads.append(threading.current_thread().name)
            # As long as it is held open, its number is not given to another file.
            self._held.append(os.dup(descriptor))
            path = Path(f"/proc/self/fd/{descriptor}").resolve()
            if stat.S_ISDIR(status.st_mode):
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self._bytes[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def cut(self, target: Path, tail: Tail = nothing) -> Path:
        """Write what survives of the root into a new folder, and return it."""
        with self._mutex:
            target.mkdir(parents=True)
            self._restore(self.root, target, tail)
        return target

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._held:
            os.close(descriptor)

    def _restore(self, source: Path, target: Path, tail: Tail) -> None:
        now = {entry.inode(): Path(entry.path) for entry in os.scandir(source)}
        for name, inode in self._names.get(source.stat().st_ino, {}).items():
            path = now.get(inode)
            if path is not None and path.is_dir():
                (target / name).mkdir()
                self._restore(path, target / name, tail)
                continue
            synced = self._bytes.get(inode, b"")
            written = b"" if path is None else path.read_bytes()
            grown = written[len(synced) :] if written.startswith(synced) else b""
            (target / name).write_bytes(synced + tail(grown))
