"""The lake: readers see each row once through appends, compaction and repair; writers of all processes take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pytest

from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.traffic import SCHEMA, to_table, today
from tests.conftest import ROOT
from tests.gateway.ledger.records import record


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake in which nothing is yet."""
    return Lake(tmp_path / "lake" / "traffic")


def _log(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "traffic" / "_delta_log"


def test_an_empty_lake_is_an_empty_table(lake: Lake) -> None:
    """Before anything was written every question has an answer."""
    assert not lake.exists()
    assert lake.version() == -1
    assert lake.read().schema.equals(SCHEMA)
    assert lake.follow(-1, ["id"])[0].num_rows == 0
    assert lake.follow(-1)[1] == -1
    assert (lake.record("a"), lake.days(), list(lake.ids()), lake.last_transaction("w0")) == (None, [], [], None)
    assert lake.tidy() == 0
    assert lake.repair() is False


def test_rows_come_back_in_the_schema(lake: Lake) -> None:
    """Types that Delta does not know, milliseconds and unsigned integers, are as they were."""
    numbers = [2**32 - 1, *range(63)]
    lake.append(to_table([record("a", fingerprint={"minhash": numbers}), record("b"), record("c", account="x")]))
    table = lake.read()
    assert table.schema.equals(SCHEMA)
    assert table["minhash"].to_pylist() == [numbers, None, None]
    assert lake.read(["id"], pc.field("account") == "x").to_pylist() == [{"id": "c"}]
    assert lake.read(["minhash"], pc.field("account") == "x")["minhash"].to_pylist() == [None]
    found = lake.record("a")
    assert found is not None
    assert found == record("a", fingerprint={"minhash": numbers})
    assert lake.days() == [today()]


def test_filters_compare_times(lake: Lake) -> None:
    """A window of time is a filter."""
    lake.append(to_table([record("old", time="2026-11-01T00:00:00Z"), record("new", time="2026-11-02T00:00:00Z")]))
    since = millisecond(datetime(2026, 11, 1, 12, tzinfo=UTC))
    assert lake.read(["id"], pc.field("time") >= since)["id"].to_pylist() == ["new"]


def test_follow_gives_each_row_once(lake: Lake) -> None:
    """Whoever passes on the version it was given sees every row, in the order of the commits, and none twice."""
    version, seen = -1, []
    for number in range(4):
        lake.append(to_table([record(f"{number}a"), record(f"{number}b")]))
        if number != 1:
            rows, version = lake.follow(version, ["id"])
            seen += rows["id"].to_pylist()
    assert seen == ["0a", "0b", "1a", "1b", "2a", "2b", "3a", "3b"]
    assert lake.follow(version, ["id"]) == (lake.read(["id"]).slice(0, 0), version)


def test_compaction_adds_no_rows_for_a_follower(lake: Lake) -> None:
    """Files merged into one are not news, wherever among their commits the follower stands."""
    for number in range(12):
        lake.append(to_table([record(str(number))]))
    version = 7
    assert lake.tidy(12) == 0
    assert lake.tidy(11) == 12
    rows, version = lake.follow(version, ["id"])
    assert rows["id"].to_pylist() == [str(number) for number in range(7, 12)]
    lake.append(to_table([record("after")]))
    assert lake.follow(version, ["id"])[0]["id"].to_pylist() == ["after"]
    assert lake.tidy(1) == 2
    assert lake.read(["id"]).num_rows == 13


def test_marks_of_several_writers_stand_in_one_commit(lake: Lake) -> None:
    """How far each slot got is committed with the rows, and the latest mark counts."""
    lake.append(to_table([record("a")]), {"w0": 5, "w1": 3})
    lake.append(to_table([record("b")]), {"w0": 9})
    assert (lake.last_transaction("w0"), lake.last_transaction("w1")) == (9, 3)
    assert lake.version() == 2


@pytest.mark.parametrize("content", [b"", b'{"commitInfo":{}}\n{"add":{"pa'], ids=["zero length", "torn"])
def test_a_broken_last_commit_is_undone(lake: Lake, tmp_path: Path, content: bytes) -> None:
    """After a power cut the log ends at the last whole commit, and the rows of the broken one may come again."""
    lake.append(to_table([record("a")]), {"w0": 1})
    lake.append(to_table([record("b")]), {"w0": 2})
    sorted(_log(tmp_path).glob("*.json"))[-1].write_bytes(content)
    after = Lake(tmp_path / "lake" / "traffic")
    assert after.repair() is True
    assert after.repair() is False
    assert (after.read(["id"])["id"].to_pylist(), after.last_transaction("w0")) == (["a"], 1)
    after.append(to_table([record("b")]), {"w0": 2})
    assert after.follow(1, ["id"])[0]["id"].to_pylist() == ["b"]


def test_several_broken_commits_are_undone(lake: Lake, tmp_path: Path) -> None:
    """Erasing files writes two commits before either is synced: both may be torn."""
    for number, name in enumerate("abc", 1):
        lake.append(to_table([record(name)]), {"w0": number})
    for version in (2, 3):
        (_log(tmp_path) / f"{version:020d}.json").write_bytes(b"")
    after = Lake(tmp_path / "lake" / "traffic")
    assert after.repair() is True
    assert (after.version(), after.last_transaction("w0")) == (1, 1)
    after.append(to_table([record("b")]), {"w0": 2})
    assert sorted(after.read(["id"])["id"].to_pylist()) == ["a", "b"]


@pytest.mark.parametrize("left", ["no file", "empty", "zeros"])
def test_a_commit_whose_rows_are_gone_is_undone(lake: Lake, tmp_path: Path, left: str) -> None:
    """A commit that reached the disk without its data is no commit."""
    lake.append(to_table([record("a")]))
    known = set((tmp_path / "lake" / "traffic").rglob("*.parquet"))
    lake.append(to_table([record("b")]))
    (added,) = set((tmp_path / "lake" / "traffic").rglob("*.parquet")) - known
    size = added.stat().st_size
    added.unlink()
    if left != "no file":
        added.write_bytes(bytes(size if left == "zeros" else 0))
    after = Lake(tmp_path / "lake" / "traffic")
    assert after.repair() is True
    assert after.read(["id"])["id"].to_pylist() == ["a"]


def test_a_lake_torn_at_its_birth_begins_again(lake: Lake, tmp_path: Path) -> None:
    """A power cut while the table was made leaves nothing that stands in the way."""
    lake.append(to_table([]))
    for path in _log(tmp_path).glob("*.json"):
        path.unlink()
    (_log(tmp_path) / f"{0:020d}.json").touch()
    after = Lake(tmp_path / "lake" / "traffic")
    assert after.repair() is True
    after.append(to_table([record("a")]))
    assert after.read(["id"]).num_rows == 1


def test_the_log_has_no_texts(lake: Lake, tmp_path: Path) -> None:
    """Statistics that prune files do not carry prompts, users or answers into the log."""
    lake.append(to_table([record("a", prompt="SECRETPROMPT", user="SECRETUSER", response={"content": "SECRETANSWER"})]))
    text = "".join(path.read_text() for path in _log(tmp_path).glob("*.json"))
    assert '"account":"app"' in text.replace("\\", "")
    assert "SECRET" not in text


_APPENDER = """
import sys
from pathlib import Path
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from tests.gateway.ledger.records import record

lake = Lake(Path(sys.argv[1]))
for number in range(10):
    lake.append(to_table([record(f"{sys.argv[2]}{number}")]), {sys.argv[2]: number})
"""


@pytest.mark.slow
def test_two_processes_append_at_once(lake: Lake, tmp_path: Path) -> None:
    """The ingester and an import take turns: no commit fails, none is lost, and every row knows its version."""
    path = str(tmp_path / "lake" / "traffic")
    command = [sys.executable, "-c", _APPENDER, path]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("x", "y")]
    assert [process.wait() for process in processes] == [0, 0]
    rows = lake.read(["id", "lake_version"]).to_pylist()
    assert {row["id"] for row in rows} == {f"{name}{number}" for name in "xy" for number in range(10)}
    assert sorted(row["lake_version"] for row in rows) == list(range(1, 21))
    assert (lake.last_transaction("x"), lake.last_transaction("y")) == (9, 9)


def test_readers_go_on_while_it_is_written(lake: Lake) -> None:
    """A follower in another thread, with the same object, sees a growing, gapless sequence."""
    stop = threading.Event()
    seen: list[str] = []

    def read() -> None:
        version = -1
        while True:
            last = stop.is_set()
            rows, version = lake.follow(version, ["id"])
            seen.extend(rows["id"].to_pylist())
            if last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(15):
        lake.append(to_table([record(str(number))]))
    stop.set()
    reader.join()
    assert seen == [str(number) for number in range(15)]


@pytest.mark.slow
def test_the_log_stays_short_and_followers_do_not_mind(lake: Lake, tmp_path: Path) -> None:
    """Entries older than an hour go with the next checkpoint; a follower from before them still sees each row once."""
    follower = Lake(tmp_path / "lake" / "traffic")
    version, seen = -1, []
    for number in range(205):
        lake.append(to_table([record(str(number))]))
        if number == 20:
            rows, version = follower.follow(version, ["id"])
            seen += rows["id"].to_pylist()
        if number == 150:
            for path in _log(tmp_path).iterdir():
                os.utime(path, (time.time() - 7_200,) * 2)
    rows, version = follower.follow(version, ["id"])
    assert [*seen, *rows["id"].to_pylist()] == [str(number) for number in range(205)]
    assert len(list(_log(tmp_path).glob("*.json"))) < 120
