"""The disk budget of a house: what spool and lake take, against what they may."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class DiskBudget:
    """Measures when told to, and is asked as often as wanted; `budget_bytes` 0 is no bound."""

    def __init__(self, data_dir: Path, budget_bytes: int) -> None:
        self._folders = (data_dir / "spool", data_dir / "lake")
        self.budget_bytes = budget_bytes
        self.used_bytes = 0

    def measure(self) -> None:
        """Add up the files as they are now."""
        self.used_bytes = sum(size for folder in self._folders for size in _sizes(str(folder)))

    def has_room(self) -> bool:
        """Return whether the last measure was within the budget."""
        return self.budget_bytes == 0 or self.used_bytes < self.budget_bytes


def _sizes(folder: str) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):  # Not there yet, or gone since it was listed.
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(entry.path)
            continue
        try:
            yield entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
