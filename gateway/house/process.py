"""Child processes that can't outlive the house, with their output in a log file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LEASH = str(Path(__file__).with_name("leash.py"))
ROTATE_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Program:
    """What to run: `environment` is added to the house's, `log` takes all output, `grace_s` is the time to stop."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    directory: Path
    grace_s: float = 15.0


class Watchdog:
    """A small process that kills the listed process groups when the house is gone, however it went."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process = self._start()

    def add(self, group: int) -> None:
        """List a group."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Take a group off the list."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End it; what is still listed dies."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:
            # Somebody killed it: a new one learns the whole list.
            self._process.wait()
            self._process = self._start()
            self._write("".join(f"+{group}\n" for group in sorted(self._groups)))

    def _write(self, text: str) -> None:
        pipe = self._process.stdin
        # Once closed it has done its work, and a process that ends later is no news to anybody.
        if pipe is not None and not pipe.closed:
            os.write(pipe.fileno(), text.encode())

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", LEASH, "watch"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


class Process:
    """A running child in a process group of its own."""

    def __init__(self, program: Program, child: asyncio.subprocess.Process, offset: int, watchdog: Watchdog) -> None:
        self.program = program
        self.pid = child.pid
        self._child = child
        self._offset = offset
        self._watchdog = watchdog

    @classmethod
    async def start(cls, program: Program, watchdog: Watchdog) -> Process:
        """Start the program; call it in the main thread, whose end is what the kernel takes for the parent's death."""
        rotate(program.log)
        with program.log.open("ab") as log:
            offset = log.tell()
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", LEASH, "exec", str(os.getpid())),
                *program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=program.directory,
                env=dict(os.environ) | dict(program.environment),
                process_group=0,
            )
        watchdog.add(child.pid)
        return cls(program, child, offset, watchdog)

    async def wait(self) -> int:
        """Return the exit status (negative: the signal), once the whole group is gone."""
        code = await self._child.wait()
        self._signal_group(signal.SIGKILL)
        self._watchdog.remove(self.pid)
        return code

    async def stop(self) -> int:
        """Ask it to end, and kill its group when the grace is over; returns the exit status."""
        if self._child.returncode is None:
            try:
                self._child.terminate()
            except ProcessLookupError:
                pass  # It ended by itself at this very moment.
            try:
                await asyncio.wait_for(self._child.wait(), self.program.grace_s)
            except TimeoutError:
                self._signal_group(signal.SIGKILL)
        return await self.wait()

    def output(self) -> str:
        """Return the end of what it has written since it started."""
        with self.program.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._offset, end - TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # Nobody of the group is left, which is what the signal is for.


def rotate(log: Path) -> None:
    """Put a log that has grown long aside as `.1`, so that at most two lengths of it are kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > ROTATE_BYTES:
        log.replace(log.with_name(log.name + ".1"))
