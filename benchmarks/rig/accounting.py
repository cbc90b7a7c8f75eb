"""What processes cost: CPU time and resident memory of a process and all below it, from /proc."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting += children.get(current, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time, user and system, that the processes have used (resolution: one tick, usually 10 ms)."""
    return sum((int(fields[11]) + int(fields[12])) / _TICK for fields in map(_stat, pids) if fields)


def resident_mb(pids: list[int]) -> float:
    """Return the resident memory of the processes in megabytes."""
    return sum(int(fields[21]) * _PAGE / 1e6 for fields in map(_stat, pids) if fields)


def rig() -> str:
    """Describe the machine in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores ({model}), {system}, Python {platform.python_version()}"


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, the state first; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
