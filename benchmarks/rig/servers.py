"""Servers that benchmarks start and stop: how one is named, reached and waited for, and the stand-in for vLLM."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rig.accounting import tree
from benchmarks.rig.texts import request_body

ROOT = Path(__file__).resolve().parents[2]
START_S = 180.0  # LiteLLM takes its time


@dataclass
class Contestant:
    """A running server: where it answers, with which headers, and what was switched on."""

    name: str
    url: str
    features: str
    process: subprocess.Popen[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The server's processes."""
        return tree(self.process.pid) if self.process is not None else []

    @property
    def load_arguments(self) -> list[str]:
        """What the load generator is told."""
        pairs = [f"{name}: {value}" for name, value in self.headers.items()]
        return [f"{self.url}/v1/chat/completions", *(part for pair in pairs for part in ("--header", pair))]


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server inside the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | (environment or {}), cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def upstream(folder: Path, *, first_ms: float = 0.0, gap_ms: float = 0.0) -> Iterator[str]:
    """Run the stand-in for vLLM; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.rig.upstream", "--port", str(port)]
    with started([*command, "--first-ms", str(first_ms), "--gap-ms", str(gap_ms)], folder / "upstream.log"):
        url = f"http://127.0.0.1:{port}"
        await_answer(Contestant("upstream", url, ""))
        yield url


def await_answer(contestant: Contestant, *, patience_s: float = 10.0) -> None:
    """Wait until it answers a chat request within `patience_s`; `RuntimeError` with its last words when it does not."""
    deadline, last = time.monotonic() + START_S, ""
    while time.monotonic() < deadline:
        if contestant.process is not None and contestant.process.poll() is not None:
            raise RuntimeError(f"{contestant.name} ended at its start with status {contestant.process.returncode}")
        try:
            request = urllib.request.Request(
                f"{contestant.url}/v1/chat/completions",
                request_body(),
                {"Content-Type": "application/json"} | contestant.headers,
            )
            with urllib.request.urlopen(request, timeout=patience_s) as answer:
                json.load(answer)
                return
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read()[:300]!r}"
        except (OSError, ValueError) as error:
            last = str(error)
        time.sleep(0.25)
    raise RuntimeError(f"{contestant.name} does not answer: {last}")
