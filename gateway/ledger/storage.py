"""Where a lake lies: what its table does not do itself, and each kind of place does in its own way.

`Folder` is a folder of this machine, which one process at a time writes to. `Bucket` is on an object store, where
writers of other machines are held off by Delta's conditional put alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket: its name below the lake's prefix, its size in bytes, when it was written (seconds).

    `version` names one of several that the bucket keeps; None where it was not asked for.
    """

    name: str
    size: int
    written: float
    version: str | None = None


class Storage(Protocol):
    """A place that a lake's table lies in, and the small files beside it that everybody who uses the lake reads."""

    @property
    def uri(self) -> str:
        """The table's address, as Delta takes it."""
        ...

    @property
    def options(self) -> dict[str, str] | None:
        """What Delta's object store is told; None where there is nothing to tell."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether writers of other machines commit to it as well."""
        ...

    def appending(self) -> AbstractContextManager[None]:
        """Wait for the turn to append, and hold it."""
        ...

    def rewriting(self) -> AbstractContextManager[None]:
        """Wait for the turn to rewrite files, and hold it: appends wait meanwhile."""
        ...

    def checked(self) -> AbstractContextManager[None]:
        """Turn an error of the place itself into one that names the remedy."""
        ...

    def make_room(self) -> None:
        """Prepare the place for a table."""
        ...

    def sync(self, version: int) -> None:
        """Make a commit and what it names as durable as the place can."""
        ...

    def repair(self) -> bool:
        """Undo the newest commits if a power cut left them broken; True when it did. Takes the turn itself."""
        ...

    def open(self, path: str) -> Any:
        """Open a file of the table for Arrow's Parquet reader."""
        ...

    def wrote(self, version: int, token: str) -> bool:
        """Return whether the commit of that version carries the token."""
        ...

    def claim(self, version: int, entry: bytes) -> bool:
        """Have other machines' merges refused by a commit of that entry; False where somebody else's commit was first.

        A place that one machine has for itself commits nothing.
        """
        ...

    def begin_log(self, version: int) -> None:
        """Let the log begin at a version that has a checkpoint: nothing of older entries can be read afterwards."""
        ...

    def erase_unreferenced(self, referenced: frozenset[str], hidden: frozenset[str]) -> int:
        """Erase data files that no commit will ever name, and return how many there were.

        `referenced`: those of the newest version; `hidden`: accounts that no commit since the last fence has rows of.
        """
        ...

    def erase_old_versions(self) -> None:
        """Erase what the place itself keeps of files that were replaced or removed."""
        ...

    def objects(self) -> Iterator[StoredObject]:
        """Yield everything that lies there and is not below `data_dir`."""
        ...

    def read(self, name: str, version: str | None = None) -> bytes | None:
        """Return a small file beside the table, or an object in one of its versions; None where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Replace a small file beside the table."""
        ...

    def hidden(self) -> frozenset[str]:
        """Return the accounts that have a tombstone."""
        ...

    def hide(self, account: str) -> None:
        """Put an account's tombstone up; the caller has the turn to rewrite."""
        ...

    def show(self, account: str) -> None:
        """Take it away."""
        ...

    def removed(self) -> dict[str, NDArray[np.int64]]:
        """Return, by stream, the numbers of records that were removed on purpose, ascending."""
        ...

    def note_removed(self, rows: pa.Table) -> None:
        """Note the numbers of rows that are about to go."""
        ...

    def merge_notes(self) -> int:
        """Bring such notes together where there are several, and return how many there were."""
        ...
