"""`spiritsafe up`: the whole house, with a stand-in for vLLM, started, hurt and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway import reload
from gateway.ledger import registry
from gateway.ledger.database import open_database
from gateway.ledger.identifiers import now
from tests.gateway.house.running import Up, prepare, running_house
from tests.gateway.house.stand_in_vllm import make_model
from tests.gateway.house.waiting import eventually, is_alive

# Each test starts all processes of a house: several seconds of two idle cores, many more where they are busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Up]]:
    """Return `start()`: run `spiritsafe up` in the test's folder, as often as wanted."""
    prepare(tmp_path)
    with ExitStack() as running:
        yield lambda: running.enter_context(running_house(tmp_path))


def add_student(folder: Path, version: int, state: registry.State = "trained", **values: Any) -> str:
    """Register a student whose weights are the stand-in's."""
    path = make_model(folder / f"student-{version}")
    database = open_database(f"sqlite:///{folder / 'data' / 'control.sqlite'}")
    student = registry.Student(
        *("tickets", version, "tickets", "chat.completions", "ab", "f" * 64, "teacher", str(path), state, now()),
        *(10, 2048, "Apache-2.0", {}),
        **values,
    )
    with database.write() as connection:
        registry.add(connection, student, "test")
    database.close()
    return student.reference


def student_url(folder: Path, reference: str) -> str | None:
    """Where the registry says that a student is served."""
    database = open_database(f"sqlite:///{folder / 'data' / 'control.sqlite'}")
    with database.read() as connection:
        url = registry.get(connection, reference).url
    database.close()
    return url


def refuse(folder: Path, reference: str) -> None:
    """Let the gate refuse a student."""
    database = open_database(f"sqlite:///{folder / 'data' / 'control.sqlite'}")
    with database.write() as connection:
        registry.record_gate(connection, reference, False, {"verdict": "refused"}, (1, 1), "test", "test")
    database.close()


def served_name(url: str) -> str:
    """The name that a model server gives itself."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
        return str(json.load(answer)["data"][0]["id"])


def test_the_house_stands_and_leaves(start: Callable[[], Up]) -> None:
    """Every process becomes ready; SIGTERM stops all of them, the gateway before the models, and says so."""
    up = start()
    for name in ("teacher", "operator", "ingester", "gateway-w0"):
        up.until(name, state="ready")
    operator = up.until("operator").url
    with urllib.request.urlopen(f"{operator}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'spiritsafe_model_healthy{model="teacher",process="house"} 1.0' in metrics
    assert 'spiritsafe_process_up{process="gateway-w0"} 1.0' in metrics
    pids = up.pids()
    assert len(pids) >= 4
    up.process.terminate()
    assert up.process.wait(90) == 0
    assert not any(map(is_alive, pids))
    told = up.output()
    assert told.index("gateway-w0: stopped") < told.index("ingester: stopped") < told.index("teacher: stopped")
    log = (up.folder / "data" / "logs" / "model-teacher.log").read_text()
    assert "completion for teacher" in log  # the warm-up


def test_a_killed_house_takes_everything_along(start: Callable[[], Up], tmp_path: Path) -> None:
    """kill -9 of `up` ends its children and theirs, and a new start needs no cleaning."""
    make_model(tmp_path / "teacher", children=str(tmp_path / "grandchild"))
    up = start()
    for name in ("teacher", "gateway-w0"):
        up.until(name, state="ready")
    pids = [*up.pids(), int((up.folder / "grandchild").read_text())]
    up.process.kill()
    up.process.wait()
    eventually(lambda: not any(map(is_alive, pids)), 5)
    again = start()
    for name in ("teacher", "gateway-w0"):
        again.until(name, state="ready")


def test_the_dead_come_back(start: Callable[[], Up]) -> None:
    """A killed model and a killed worker are started again; the house says what happened."""
    up = start()
    for name in ("teacher", "gateway-w0"):
        before = up.until(name, state="ready")
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        up.until(name, state="ready", restarts=1, error=None)
    assert "teacher: was killed (signal 9)" in up.output()


def test_the_house_hands_a_reload_on(start: Callable[[], Up]) -> None:
    """SIGHUP reaches the gateway's workers; nothing is started anew, what can't change live is named."""
    up = start()
    up.until("gateway-w0", state="ready")
    file = up.folder / "spiritsafe.toml"
    dearer = file.read_text().replace('role = "teacher"', 'role = "teacher"\ninput_price = 2')
    file.write_text(dearer + "[detector]\ninterval_s = 9\n")
    before = up.find("gateway-w0")
    up.process.send_signal(signal.SIGHUP)
    eventually(lambda: [report.number for report in reload.reports(up.folder / "data")] == [1], 10)
    (report,) = reload.reports(up.folder / "data")
    assert (report.changed, report.restart, report.error) == (("models.teacher",), ("detector.interval_s",), None)
    assert before == up.find("gateway-w0")


def test_a_second_house_is_refused(start: Callable[[], Up]) -> None:
    """One data_dir has one house: the second says who holds it and what to do, and the first goes on."""
    up = start()
    up.until("teacher")
    command = [sys.executable, "-m", "gateway.cli", "up"]
    second = subprocess.run(command, cwd=up.folder, capture_output=True, text=True, timeout=90, check=False)
    assert second.returncode == 1
    assert f"a house (process {up.process.pid}) runs on {up.folder / 'data'} already" in second.stderr
    assert up.process.poll() is None


def test_students_appear_and_go(start: Callable[[], Up]) -> None:
    """A trained student is served under its reference and its row says where; a refused one is stopped and cleared."""
    up = start()
    up.until("teacher")
    stale = add_student(up.folder, 1, "retired", url="http://127.0.0.1:1")
    reference = add_student(up.folder, 2)
    url = eventually(lambda: student_url(up.folder, reference))
    assert url is not None
    assert url.startswith("http://127.0.0.1:")
    assert served_name(url) == reference
    assert student_url(up.folder, stale) is None
    pid = up.until(reference, state="ready").pid
    refuse(up.folder, reference)
    eventually(lambda: student_url(up.folder, reference) is None)
    eventually(lambda: pid is not None and not is_alive(pid))


def test_a_killed_house_leaves_no_stale_address(start: Callable[[], Up]) -> None:
    """The address of a student that a killed house left is cleared by the next, until the student serves again."""
    up = start()
    up.until("teacher")
    reference = add_student(up.folder, 1)
    eventually(lambda: student_url(up.folder, reference))
    up.process.kill()
    up.process.wait()
    make_model(up.folder / "student-1", fail="RuntimeError: no")
    again = start()
    again.until(reference, state="waiting")
    assert student_url(up.folder, reference) is None


def test_a_model_that_fails_says_why(start: Callable[[], Up], tmp_path: Path) -> None:
    """A start that fails is explained in one paragraph with the remedy; the rest of the house stands."""
    make_model(tmp_path / "teacher", fail="Traceback:\n  …\nRuntimeError: out of memory")
    up = start()
    error = up.until("teacher", state="waiting").error or ""
    assert "RuntimeError: out of memory" in error
    assert "Remedy: free some memory" in error
    assert "\n" not in error
    up.until("operator", state="ready")
    assert f"teacher: {error.rstrip('.')}" in up.output()


def test_a_name_means_one_model(start: Callable[[], Up]) -> None:
    """A name both in the file and in the registry stops the start with the remedy."""
    up = start()
    up.until("teacher")
    add_student(up.folder, 1)
    up.process.terminate()
    up.process.wait(90)
    settings = up.folder / "spiritsafe.toml"
    settings.write_text(settings.read_text().replace('"teacher"\nrole', '"tickets"\nrole'))
    again = start()
    assert again.process.wait(90) == 1
    assert "rename the model in the file" in again.output()


def test_without_a_file_a_default_one_is_written(tmp_path: Path) -> None:
    """The first start says what it assumes and writes the file; a port that is taken is named with its setting."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environment = os.environ | {"SPIRITSAFE_GATEWAY__PORT": str(port)}
        command = [sys.executable, "-m", "gateway.cli", "up"]
        finished = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
    assert finished.returncode == 1
    assert "was written with the defaults" in finished.stderr
    assert "teacher 'teacher' is expected at http://127.0.0.1:8001" in finished.stderr
    assert f"port {port} of 127.0.0.1 is taken" in finished.stderr
    assert "gateway.port" in finished.stderr
    assert 'name = "teacher"' in (tmp_path / "spiritsafe.toml").read_text()
