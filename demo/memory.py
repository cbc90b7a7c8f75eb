"""The peak of resident memory of this process and everything it started, sampled from /proc (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class PeakMemory:
    """Samples every two seconds in a thread; `bytes` is the largest sum seen so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(2):
            self.bytes = max(self.bytes, resident_bytes(os.getpid()))


def resident_bytes(ancestor: int) -> int:
    """Return the resident bytes of a process and all its descendants, shared pages counted in each."""
    parents, resident = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # The process ended while we looked.
                continue
            parents[int(folder.name)], resident[int(folder.name)] = int(fields[1]), int(fields[21]) * page
    return sum(size for pid, size in resident.items() if _descends(pid, ancestor, parents))


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False
