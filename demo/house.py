"""The demo's hands: `spiritsafe up` as a process, the command line, and the admin API in an operator's name."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "demo" / "spiritsafe.toml"
COMMAND = [str(Path(sys.executable).with_name("spiritsafe"))]


class DemoError(Exception):
    """A step did not do its job; the message says which and where to look."""


@dataclass
class House:
    """The running house: its process, and where its two doors are."""

    log: Path
    gateway: str = "http://127.0.0.1:8080"
    operators: str = "http://127.0.0.1:8081"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start `spiritsafe up` with the demo's settings; its own words go to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            command = [*COMMAND, "up", "--config", str(CONFIG)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)

    def stop(self) -> None:
        """Ask the house to stop and wait until all of it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait_models(self, operator: Operator, *names: str, seconds: float = 300) -> None:
        """Wait until the house says that it serves each of the models, warmed up."""

        def served() -> bool:
            self.check_alive()
            ready = {row["name"] for row in operator.get("/health")["processes"] if row["state"] == "ready"}
            return ready.issuperset(names)

        wait_for(served, seconds, f"not served in time: {', '.join(names)}; see {self.log}")

    def wait_operators(self, seconds: float = 60) -> None:
        """Wait until the operators' door answers."""

        def ready() -> bool:
            self.check_alive()
            return httpx.get(f"{self.operators}/health", timeout=5).status_code == 200

        wait_for(ready, seconds, f"the operator process did not answer: see {self.log}")

    def check_alive(self) -> None:
        """Raise when the house has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-8:]
            raise DemoError("the house stopped by itself:\n  " + "\n  ".join(tail))

    def command(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a `spiritsafe` command with `--json` and return the objects it printed."""
        command = [*COMMAND, *arguments, "--config", str(CONFIG), "--json"]
        finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if finished.returncode != 0:
            raise DemoError(f"`spiritsafe {' '.join(arguments)}` failed: {finished.stderr.strip()[-2000:]}")
        return _documents(finished.stdout)

    def long_command(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command that takes minutes, its progress shown as it comes."""
        command = [*COMMAND, *arguments, "--config", str(CONFIG), "--json"]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        if finished.returncode != 0:
            raise DemoError(f"`spiritsafe {' '.join(arguments)}` failed, as said above")
        return _documents(finished.stdout)


@dataclass(frozen=True)
class Operator:
    """One of the demo's two operators, acting through the admin API with a token."""

    name: str
    token: str
    url: str

    def get(self, path: str) -> Any:
        """Read a resource of the admin API."""
        return self._send("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        """Act through the admin API."""
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"authorization": f"Bearer {self.token}"}
        answer = httpx.request(method, f"{self.url}/admin/v1{path}", headers=headers, json=body, timeout=60)
        if answer.is_error:
            raise DemoError(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


def wait_for(condition: Callable[[], Any], seconds: float, failure: str) -> Any:
    """Poll until the condition is truthy and return its value; `DemoError` with `failure` when time is up."""
    end = time.monotonic() + seconds
    last = ""
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except httpx.TransportError as error:
            last = f" ({error})"
        time.sleep(0.5)
    raise DemoError(failure + last)


def _documents(text: str) -> list[dict[str, Any]]:
    try:
        document = json.loads(text or "[]")
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return document if isinstance(document, list) else [document]
