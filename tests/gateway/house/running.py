"""A running `spiritsafe up` with a stand-in for vLLM, and what can be seen of it from outside."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.ledger import house_status
from gateway.ledger.house_status import HouseStatus, ProcessStatus
from tests.gateway.house.stand_in_vllm import make_model, make_python
from tests.gateway.house.waiting import eventually

SETTINGS = """\
data_dir = "data"
[gateway]
port = 0
[operator]
port = 0
[vllm]
python = "{python}"
[[models]]
name = "teacher"
role = "teacher"
[models.serve]
path = "teacher"
port = {port}
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Up:
    """A running `spiritsafe up` and its installation."""

    folder: Path
    process: subprocess.Popen[str]

    def status(self) -> HouseStatus | None:
        """What this very process last wrote of itself."""
        status = house_status.read(self.folder / "data")
        return status if status is not None and status.pid == self.process.pid else None

    def find(self, name: str, **wanted: Any) -> ProcessStatus | None:
        """The process of that name, if it is as wanted."""
        status = self.status()
        rows = [row for row in status.processes if row.name == name] if status else []
        return next((row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())), None)

    def until(self, name: str, seconds: float = 90, **wanted: Any) -> ProcessStatus:
        """Wait until the process is as wanted."""
        found = eventually(lambda: self.find(name, **wanted), seconds)
        assert found is not None
        return found

    def pids(self) -> list[int]:
        """The processes that run now."""
        status = self.status()
        return [] if status is None else [row.pid for row in status.processes if row.pid is not None]

    def output(self) -> str:
        """What it has told on stderr."""
        return (self.folder / "up.log").read_text()


def prepare(folder: Path, more_settings: str = "") -> None:
    """Write the settings file and the teacher's folder of an installation."""
    make_model(folder / "teacher")
    settings = SETTINGS.format(python=make_python(folder), port=free_port())
    (folder / "spiritsafe.toml").write_text(more_settings + settings)


@contextmanager
def running_house(folder: Path) -> Iterator[Up]:
    """Run `spiritsafe up` there; at the end it is killed, which must end everything."""
    with (folder / "up.log").open("w") as log:
        command = [sys.executable, "-m", "gateway.cli", "up", "--json"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, text=True)
    try:
        yield Up(folder, process)
    finally:
        process.kill()
        process.wait()
