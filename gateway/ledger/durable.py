"""Small files that are whole after a power cut: written beside their place, synced, renamed.

Writers of one file take turns, so what lies half built beside it when one begins was left by a killed one; it may hold
what an erasure looks for.
"""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file's content; a reader sees the old one or the new one, whatever is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)
    sync_path(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there, so that it stays removed."""
    path.unlink(missing_ok=True)
    _sweep(path)
    if path.parent.exists():
        sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Sync a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def turn(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, and hold it; a killed one lets go."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(path: Path) -> None:
    for building in path.parent.glob(f".{glob.escape(path.name)}.*"):
        building.unlink(missing_ok=True)
