"""Kills at points nobody chose: what was acknowledged is in the lake, once, and what was under way is shown."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.crash import crash
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
LIVES = 20


def _start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tests.gateway.ledger.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


def _first_output(process: subprocess.Popen[bytes]) -> bytes:
    """Wait until the process has printed something, and return it."""
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    assert first
    return first


def _kill(process: subprocess.Popen[bytes], first: bytes = b"") -> list[str]:
    """Kill -9 and return the whole lines it had printed, beginning with what was read of them already."""
    os.kill(process.pid, signal.SIGKILL)
    return (first + process.communicate()[0]).decode().split("\n")[:-1]


def test_killed_writers_lose_nothing_that_was_acknowledged(settings: Settings) -> None:
    """Lives of one slot, each ended by kill -9: completed = recorded, and each death leaves what was under way."""
    chance = random.Random(7)
    acknowledged: list[str] = []
    for life in range(LIVES):
        process = _start("writer_process", str(settings.data_dir / "spool"), "w0", f"life{life}")
        first = _first_output(process)
        time.sleep(chance.uniform(0.05, 0.2))
        acknowledged += _kill(process, first)
    Ingester(settings, dict).run_once()
    rows = Lake(settings.data_dir / "lake" / "traffic").read(["id", "status", "error"]).to_pylist()
    finished = Counter(row["id"] for row in rows if row["status"] == 200)
    interrupted = [row for row in rows if row["error"] == "interrupted"]
    assert len(acknowledged) >= LIVES
    assert set(acknowledged) <= finished.keys()
    assert set(Counter(row["id"] for row in rows).values()) == {1}
    # Two are under way at any time, but between a final and the next start there is one.
    assert LIVES <= len(interrupted) <= 2 * LIVES
    assert all(row["status"] == 0 for row in interrupted)
    (report,) = verify(settings)
    assert report.is_sound
    assert (report.completed, report.waiting, report.under_way) == (report.recorded, 0, 0)


def test_killed_ingesters_neither_lose_nor_double(settings: Settings) -> None:
    """A writer goes on while its ingester is killed again and again: every finished request is one row."""
    chance = random.Random(11)
    writer = _start("writer_process", str(settings.data_dir / "spool"), "w0", "a")
    first = _first_output(writer)
    lake = Lake(settings.data_dir / "lake" / "traffic")
    for _life in range(LIVES):
        version = lake.version()
        ingester = _start("ingester_process", str(settings.data_dir))
        while lake.version() <= version:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        _kill(ingester)
    acknowledged = _kill(writer, first)
    Ingester(settings, dict).run_once()
    ids = Counter(lake.read(["id"])["id"].to_pylist())
    assert set(acknowledged) <= ids.keys()
    assert set(ids.values()) == {1}
    (report,) = verify(settings)
    assert report.is_sound
    assert report.completed == report.recorded


def test_ingested_segments_go_and_the_newest_stays(settings: Settings) -> None:
    """After a crash is cleared up the spool holds one segment, which the slot's numbering goes on from."""
    process = _start("writer_process", str(settings.data_dir / "spool"), "w0", "a")
    _first_output(process)
    time.sleep(0.1)
    _kill(process)
    Ingester(settings, dict).run_once()
    left = list(Path(settings.data_dir / "spool" / "w0").glob("*.seg"))
    assert len(left) == 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", ["group", "strict"])
def test_a_house_that_is_killed_everywhere_loses_and_doubles_nothing(tmp_path: Path, durability: str) -> None:
    """Gateway, ingester and maintenance die under load in turn: completed = recorded, and the interrupted are shown."""
    outcome = crash(tmp_path, LIVES, 3, durability)
    assert outcome.problems == []
    assert outcome.kills == {"gateway": 7, "ingester": 7, "maintenance": 6}
    assert outcome.completed == outcome.recorded
    assert outcome.answered <= outcome.completed
    assert outcome.answered > 2 * LIVES
    assert outcome.interrupted > 0
