"""One real house for all slow tests: `spiritsafe up` on free ports, with real vLLM and the demo's teacher."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

ROOT = Path(__file__).parents[2]
SPIRITSAFE = str(Path(sys.executable).with_name("spiritsafe"))


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until the condition is truthy; fail the test saying what did not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(f"within {seconds:.0f} s: {what}")


@dataclass
class RealHouse:
    """A running house with two workers and a teacher behind it."""

    folder: Path
    port: int = field(default_factory=free_port)
    operator_port: int = field(default_factory=free_port)
    vllm_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    key: str = ""

    def __post_init__(self) -> None:
        self.config.write_text(
            f"""
data_dir = "data"
[gateway]
port = {self.port}
workers = 2
[operator]
port = {self.operator_port}
[vllm]
python = "{ROOT}/.venv-vllm/bin/python"
[[models]]
name = "teacher"
role = "teacher"
input_price = 1.0
output_price = 3.0
licence = "Apache-2.0"
distillable = true
[models.serve]
path = "{ROOT}/models/teacher"
port = {self.vllm_port}
arguments = [
    "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    # A model this small else fills an answer in JSON with blanks, which the grammar allows.
    '--structured-outputs-config={{"backend": "xgrammar", "disable_any_whitespace": true}}',
]
"""
        )

    @property
    def config(self) -> Path:
        """The house's settings file."""
        return self.folder / "spiritsafe.toml"

    @property
    def url(self) -> str:
        """The public endpoint, as a client's `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def client(self, key: str = "", **options: Any) -> Any:
        """The stock client on the public endpoint; untyped, because tests send dicts as apps do."""
        return openai.OpenAI(base_url=self.url, api_key=key or self.key, timeout=60, **options)

    def start(self) -> None:
        """Start `spiritsafe up`; its own words go to `up.log`."""
        with (self.folder / "up.log").open("ab") as log:
            command = [SPIRITSAFE, "up", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def wait_ready(self, seconds: float = 180) -> None:
        """Wait until every process of the house, the teacher included, is ready."""

        def all_ready() -> bool:
            assert self.process is not None
            status = self.folder / "data" / "run" / "status.json"
            house: dict[str, Any] = json.loads(status.read_text()) if status.exists() else {"processes": [], "pid": 0}
            states = {row["name"]: row["state"] for row in house["processes"]}
            complete = {"teacher", "gateway-w0", "gateway-w1", "ingester", "detector", "operator"} <= states.keys()
            return house["pid"] == self.process.pid and complete and set(states.values()) == {"ready"}

        wait_for(all_ready, seconds, f"the house is not ready, see {self.folder}/up.log")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the house with a signal and wait for the parent."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=60)

    def command(self, *arguments: str, check: bool = True) -> list[dict[str, Any]]:
        """Run a `spiritsafe` command with `--json`; returns the objects it printed."""
        command = [SPIRITSAFE, *arguments, "--config", str(self.config), "--json"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or finished.returncode == 0, finished.stderr
        return [json.loads(line) for line in finished.stdout.splitlines() if line.strip()]

    def children(self) -> dict[int, str]:
        """Return the house's descendants: pid → command line."""
        assert self.process is not None
        found: dict[int, str] = {self.process.pid: ""}
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
        grown = True
        while grown:
            fresh = [pid for pid, parent in parents.items() if parent in found and pid not in found]
            for pid in fresh:
                found[pid] = _command_line(pid)
            grown = bool(fresh)
        del found[self.process.pid]
        return found

    def pid_of(self, *words: str) -> int:
        """Return the one descendant whose command line has all the words."""
        return next(pid for pid, line in self.children().items() if all(word in line for word in words))

    def vllm_running(self) -> float:
        """Return how many requests vLLM is working on, by its own metric."""
        text = httpx.get(f"http://127.0.0.1:{self.vllm_port}/metrics").text
        return sum(
            float(line.split()[-1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running")
        )


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def house(
    tmp_path_factory: pytest.TempPathFactory,
    require_environment: Callable[[str], Path],
    require_model: Callable[[str], Path],
) -> Iterator[RealHouse]:
    """The shared house with one account and its key; needs what `make setup-all` makes."""
    require_environment("vllm")
    require_model("teacher")
    running = RealHouse(tmp_path_factory.mktemp("house"))
    running.command("accounts", "create", "acme")
    running.key = running.command("keys", "create", "--account", "acme")[0]["key"]
    running.start()
    try:
        running.wait_ready()
        yield running
    finally:
        running.stop()
