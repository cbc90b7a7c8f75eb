"""Runs a module of this package in the distiller's environment, which has libraries of its own, and follows it."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gateway.ledger.errors import LedgerError
from gateway.settings import Settings

_PR_SET_PDEATHSIG = 1

Show = Callable[[int, int, float, str], None]


class TrainingFailed(LedgerError):
    """A training child ended without its work; the message is its remedy."""


@contextmanager
def child(
    settings: Settings,
    folder: Path,
    module: str,
    arguments: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: int | IO[str],
    limits: Mapping[int, int] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m distiller.MODULE` with `folder`, which is empty, as all that it sees of our code.

    It dies with us, even at `kill -9`, and at the end of the block. `limits`: what `setrlimit` bounds it by. Raises
    `TrainingFailed` where there is no such environment.
    """
    python = settings.base_dir / settings.distiller.python
    if not python.exists():
        raise TrainingFailed(f"{python} does not exist: run `make setup-distiller`, or set `python` under [distiller]")
    # The child's environment has libraries of its own: it may see this package, and nothing else of ours.
    os.symlink(Path(__file__).parent, folder / "distiller")
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": str(settings.distiller.threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # beside another busy process, spinning threads make a step 40 times as slow
        "HF_HUB_OFFLINE": "1",
    }
    libc = ctypes.CDLL(None)

    def bound() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for name, most in (limits or {}).items():
            resource.setrlimit(name, (most, most))

    started = subprocess.Popen(
        [str(python), "-m", f"distiller.{module}", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
        preexec_fn=bound,
    )
    try:
        yield started
        started.wait()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def follow(lines: Iterable[str], show: Show) -> tuple[list[dict[str, Any]], list[str]]:
    """Show the steps that a child reports; return the other JSON objects, and what is none: a library's own words."""
    found: list[dict[str, Any]] = []
    words: list[str] = []
    for line in lines:
        try:
            spoken = json.loads(line)
        except ValueError:
            spoken = None
        if not isinstance(spoken, dict):
            words.append(line)
        elif {"step", "steps", "eta_s", "loss"} <= spoken.keys():
            show(spoken["step"], spoken["steps"], spoken["eta_s"], f"loss {spoken['loss']:.4f}")
        else:
            found.append(spoken)
    return found, words
