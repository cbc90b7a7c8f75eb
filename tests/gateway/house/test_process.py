"""Child processes: their output is kept, they end in good order, and none outlives the house."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.house import process
from gateway.house.process import Process, Program, Watchdog, rotate
from tests.gateway.house.waiting import eventually, is_alive

pytestmark = pytest.mark.slow
PARENT = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from gateway.house.process import Process, Program, Watchdog

    async def main():
        program = Program((sys.executable, "-c", sys.argv[1]), {}, Path(sys.argv[2]), Path.cwd())
        child = await Process.start(program, Watchdog())
        print(child.pid, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
""")
WITH_CHILD = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"


def program(tmp_path: Path, code: str, grace_s: float = 5.0) -> Program:
    """A Python program whose output goes to a log in the test's folder."""
    return Program(
        (sys.executable, "-u", "-c", code), {"COLOUR": "amber"}, tmp_path / "logs" / "x.log", tmp_path, grace_s
    )


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """A watchdog, ended after the test."""
    dog = Watchdog()
    yield dog
    dog.close()


@pytest.mark.parametrize("code", ["import time; time.sleep(600)", WITH_CHILD], ids=["child", "grandchild"])
def test_children_die_with_a_killed_parent(tmp_path: Path, code: str) -> None:
    """kill -9 of the parent ends its children, and the processes that those started."""
    command = [sys.executable, "-c", PARENT, code, str(tmp_path / "x.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline())]
        if code == WITH_CHILD:
            pids.append(int(eventually(lambda: (tmp_path / "x.log").read_text().strip())))
        assert all(map(is_alive, pids))
        parent.kill()
    eventually(lambda: not any(map(is_alive, pids)), 5)


async def test_output_and_environment(tmp_path: Path, watchdog: Watchdog) -> None:
    """What a program prints is in its log, and `output` returns this start's part of it only."""
    started = program(tmp_path, "import os, sys; print(os.environ['COLOUR']); sys.exit(3)")
    started.log.parent.mkdir()
    started.log.write_text("an earlier life\n")
    child = await Process.start(started, watchdog)
    assert await child.wait() == 3
    assert child.output() == "amber\n"
    assert started.log.read_text() == "an earlier life\namber\n"


async def test_stop_lets_a_program_finish(tmp_path: Path, watchdog: Watchdog) -> None:
    """SIGTERM comes first, so that a program can finish what it does."""
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up'); time.sleep(600)"
    child = await Process.start(program(tmp_path, code), watchdog)
    eventually(child.output)
    assert await child.stop() == 7


async def test_stop_kills_what_does_not_listen(tmp_path: Path, watchdog: Watchdog) -> None:
    """A program that ignores SIGTERM is killed when its time is over."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(600)"
    child = await Process.start(program(tmp_path, code, grace_s=0.3), watchdog)
    eventually(child.output)
    assert await child.stop() == -signal.SIGKILL


async def test_a_dead_programs_children_end_too(tmp_path: Path, watchdog: Watchdog) -> None:
    """When a program dies, the processes that it started don't stay behind and hold its memory or port."""
    child = await Process.start(program(tmp_path, WITH_CHILD), watchdog)
    grandchild = int(eventually(child.output))
    assert is_alive(grandchild)
    subprocess.run(["kill", "-9", str(child.pid)], check=True)
    assert await child.wait() == -signal.SIGKILL
    eventually(lambda: not is_alive(grandchild), 5)


async def test_a_missing_program_says_so(tmp_path: Path, watchdog: Watchdog) -> None:
    """A command that does not exist ends with a line that names it."""
    missing = Program((str(tmp_path / "nothing"),), {}, tmp_path / "x.log", tmp_path)
    child = await Process.start(missing, watchdog)
    assert await child.wait() == 1
    assert "nothing: No such file or directory" in child.output()


async def test_a_killed_watchdog_is_replaced(tmp_path: Path) -> None:
    """Killing the watchdog does not lose the list: the next one learns it."""
    watchdog = Watchdog()
    first = await Process.start(program(tmp_path, WITH_CHILD), watchdog)
    grandchild = int(eventually(first.output))
    watchdog._process.kill()
    watchdog._process.wait()
    second = await Process.start(program(tmp_path, "import time; time.sleep(600)"), watchdog)
    watchdog.close()  # As if the house had gone: everything that is listed dies.
    eventually(lambda: not is_alive(grandchild) and not is_alive(second.pid), 5)
    assert await first.wait() == -signal.SIGKILL
    assert await second.wait() == -signal.SIGKILL


def test_long_logs_are_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log over the limit becomes `.1` at the next start; a short one is continued."""
    monkeypatch.setattr(process, "ROTATE_BYTES", 10)
    log = tmp_path / "x.log"
    log.write_text("short")
    rotate(log)
    assert log.exists()
    log.write_text("longer than that")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "x.log.1").read_text() == "longer than that"
