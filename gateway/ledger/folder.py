"""A lake in a folder of this machine: one process at a time writes, and every commit is synced before the next.

Delta itself never syncs a file; `sync` does, before the next commit is begun, so that only the newest commit can be
broken by a power cut (`repair`).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gateway.ledger import durable, removed_numbers, tombstones
from gateway.ledger.durable import sync_path
from gateway.ledger.storage import StoredObject

logger = logging.getLogger(__name__)

_PARQUET_END = b"PAR1"  # A file whose size reached the disk before its bytes did ends with zeros instead.


class Folder:
    """A table's folder; the small files stand beside it."""

    options: dict[str, str] | None = None
    is_shared = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def uri(self) -> str:
        """The folder."""
        return str(self._path)

    def appending(self) -> AbstractContextManager[None]:
        """Hold the lock that all writers of this machine share."""
        return durable.turn(self._path.with_suffix(".lock"))

    def rewriting(self) -> AbstractContextManager[None]:
        """The same lock: one writer is one writer."""
        return self.appending()

    def checked(self) -> AbstractContextManager[None]:
        """A disk's errors name their file and reason as they are."""
        return nullcontext()

    def make_room(self) -> None:
        """Make the folder."""
        self._path.mkdir(parents=True, exist_ok=True)

    def sync(self, version: int) -> None:
        """Sync a commit, its files and their names."""
        commit = self._log / f"{version:020d}.json"
        files = [self._path / path for path, _size in _added(commit)]
        for path in [*files, commit, *self._log.glob(f"{version:020d}.checkpoint*"), self._log / "_last_checkpoint"]:
            if path.exists():
                sync_path(path)
        above = (self._path, self._path.parent, self._path.parent.parent)
        for folder in {*(path.parent for path in files), self._log, *above}:
            sync_path(folder)

    def repair(self) -> bool:
        """Undo the newest commits if they are broken.

        A sound one is synced again, since its writer may have been killed before it did so.
        """
        if not self._path.exists():
            return False
        with self.appending():
            return self._repair()

    def open(self, path: str) -> Path:
        """Return the file's path."""
        return self._path / path

    def wrote(self, version: int, token: str) -> bool:
        """Nobody else commits here, so no commit is in doubt."""
        return False

    def claim(self, version: int, entry: bytes) -> bool:
        """Nobody else merges here: there is nothing to claim."""
        return True

    def begin_log(self, version: int) -> None:
        """Unlink what is older than the version's checkpoint."""
        for path in [*self._log.glob(f"{version:020d}.checkpoint*"), self._log / "_last_checkpoint"]:
            sync_path(path)
        for path in sorted(self._log.iterdir()):
            if path.name[:20].isdecimal() and int(path.name[:20]) < version:
                path.unlink()
        sync_path(self._log)

    def erase_unreferenced(self, referenced: frozenset[str], hidden: frozenset[str]) -> int:
        """Nothing: the vacuum has taken orphans along, since nobody writes meanwhile."""
        return 0

    def erase_old_versions(self) -> None:
        """A disk keeps none."""

    def objects(self) -> Iterator[StoredObject]:
        """Yield nothing: it is all below `data_dir`."""
        return iter(())

    def read(self, name: str, version: str | None = None) -> bytes | None:
        """Return a small file, or None; there is one version."""
        try:
            return (self._path.parent / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Replace a small file."""
        durable.write(self._path.parent / name, data)

    def hidden(self) -> frozenset[str]:
        """Return the accounts that have a tombstone."""
        return tombstones.names(self._path.parent)

    def hide(self, account: str) -> None:
        """Put a tombstone up."""
        tombstones.put(self._path.parent, account)

    def show(self, account: str) -> None:
        """Take it away."""
        tombstones.lift(self._path.parent, account)

    def removed(self) -> dict[str, NDArray[np.int64]]:
        """Return the numbers of removed records."""
        return removed_numbers.read(self._path.parent)

    def note_removed(self, rows: pa.Table) -> None:
        """Note the numbers of rows that are about to go."""
        removed_numbers.note(self._path.parent, rows)

    def merge_notes(self) -> int:
        """Nothing: they are one file."""
        return 0

    @property
    def _log(self) -> Path:
        return self._path / "_delta_log"

    def _repair(self) -> bool:
        undone = False
        while commits := sorted(self._log.glob("[0-9]*.json")):
            version = int(commits[-1].stem)
            if _is_sound(self._path, commits[-1]):
                self.sync(version)
                break
            logger.warning("undoing the broken commit %s of the lake; its rows are ingested again", version)
            self._undo(version)
            undone = True
        return undone

    def _undo(self, version: int) -> None:
        for path in self._log.glob(f"{version:020d}.*"):
            path.unlink()
        # It may point at the checkpoint just removed, and is only a shortcut.
        (self._log / "_last_checkpoint").unlink(missing_ok=True)
        sync_path(self._log)


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
