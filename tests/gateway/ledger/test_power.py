"""Power cuts: in strict mode nothing that was acknowledged is lost, else the group's window, and the house starts."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.frames import Kind
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import maintain
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter, read_segment, segments
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.gateway.ledger.power import Disk, Tail, everything, nothing, torn, zeros
from tests.gateway.ledger.records import begun, record

TAILS = pytest.mark.parametrize("tail", [nothing, zeros, torn, everything])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The disk that the test's data folder lies on."""
    disk = Disk(tmp_path / "data").install(monkeypatch)
    yield disk
    disk.close()


def _writer(data_dir: Path, *, group_commit_s: float = 0.01, segment_bytes: int = 64_000_000) -> SpoolWriter:
    return SpoolWriter(data_dir / "spool", "w0", group_commit_s=group_commit_s, segment_bytes=segment_bytes)


def _finals(data_dir: Path) -> list[str]:
    frames = [frame for path in segments(data_dir / "spool" / "w0") for frame in read_segment(path)]
    return [frame.record["id"] for frame in frames if frame.kind is Kind.FINAL]


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Answers:
    """Clients that are told of a record when it is synced, as in strict mode."""

    def __init__(self, writer: SpoolWriter) -> None:
        self._writer = writer
        self.told: list[str] = []
        self.refused: list[SpoolUnavailable] = []

    def ask(self, name: str) -> None:
        """Finish a request."""
        self._writer.start(begun(name))
        self._writer.final(record(name), lambda error: self._hear(name, error))

    def _hear(self, name: str, error: SpoolUnavailable | None) -> None:
        if error is None:
            self.told.append(name)
        else:
            self.refused.append(error)


@TAILS
def test_what_was_acknowledged_as_synced_survives(tmp_path: Path, disk: Disk, tail: Tail) -> None:
    """Cuts at any moment, rotations among them: all who were told find the record, and the next writer goes on."""
    writer = _writer(disk.root, segment_bytes=3_000)
    answers = Answers(writer)
    told: list[list[str]] = []
    for number in range(60):
        answers.ask(str(number))
        if number % 15 == 14:
            _until(lambda: len(answers.told) > 2 * len(told))
            told.append(list(answers.told))
            disk.cut(tmp_path / str(len(told)), tail)
    writer.close()
    for life, names in enumerate(told, 1):
        after = tmp_path / str(life)
        assert set(names) <= set(_finals(after))
        successor = _writer(after)
        successor.final(record("next"))
        successor.close()
        assert _finals(after)[-1] == "next"


def test_the_window_is_what_is_lost_otherwise(tmp_path: Path, disk: Disk) -> None:
    """Without the wait an answer is out before its record is sure; a window later it is."""
    slow = _writer(disk.root, group_commit_s=60)
    slow.final(record("within"))
    assert _finals(disk.cut(tmp_path / "within")) == []
    slow.close()
    writer = _writer(disk.root, group_commit_s=0.01)
    writer.final(record("behind"))
    cuts = iter(range(10_000))
    _until(lambda: "behind" in _finals(disk.cut(tmp_path / f"behind{next(cuts)}")))
    writer.close()


def test_one_sync_is_shared_by_all_who_wait(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sync runs requests gather; the next one answers them all, and none of them syncs itself."""
    writer = _writer(disk.root, group_commit_s=60)
    release, began, through = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        began.set()
        assert release.wait(20)
        through(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    answers = Answers(writer)
    answers.ask("first")
    assert began.wait(20)
    for number in range(200):
        answers.ask(str(number))
    assert answers.told == []
    release.set()
    syncs = len(disk.threads)
    _until(lambda: len(answers.told) == 201)
    assert len(disk.threads) - syncs <= 4
    assert set(disk.threads[syncs:]) == {"spool-w0"}
    writer.close()


def test_nobody_syncs_in_a_writers_own_thread(disk: Disk) -> None:
    """Requests and rotations leave syncing to the spool's thread: the event loop waits for no disk."""
    writer = _writer(disk.root, segment_bytes=1_000)
    begin = len(disk.threads)
    for number in range(20):
        writer.final(record(str(number)))
    _until(lambda: len(disk.threads) > begin)
    assert set(disk.threads[begin:]) == {"spool-w0"}
    writer.close()


def test_a_killed_writers_records_become_sure_with_its_successor(tmp_path: Path, disk: Disk) -> None:
    """What a dead process had no time to sync, the next at its slot does."""
    first = _writer(disk.root, group_commit_s=60)
    first.final(record("left"))
    os.close(first._lock)  # as the kernel does for a process that is killed
    second = _writer(disk.root)
    cuts = iter(range(10_000))
    _until(lambda: _finals(disk.cut(tmp_path / f"after{next(cuts)}")) == ["left"])
    second.close()


def test_a_row_is_no_surer_than_its_frame(tmp_path: Path, disk: Disk) -> None:
    """What the ingester took up is on the spool's disk too, or the next writer would give its numbers out again."""
    writer = _writer(disk.root, group_commit_s=60, segment_bytes=1_000)
    for number in range(8):
        writer.final(record(str(number)))
    Ingester(Settings(data_dir=disk.root), dict).run_once()
    settings = Settings(data_dir=disk.cut(tmp_path / "after"))
    successor = _writer(settings.data_dir)
    successor.final(record("next"))
    successor.close()
    Ingester(settings, dict).run_once()
    rows = Lake(settings.data_dir / "lake" / "traffic").read(["id"])["id"].to_pylist()
    assert sorted(rows) == [*map(str, range(8)), "next"]
    writer.close()


def test_a_disk_that_can_not_be_synced_refuses_until_it_can(disk: Disk) -> None:
    """Who waits is told why, nothing more is taken, and it is tried again in a new file until it works."""
    writer = _writer(disk.root)
    answers = Answers(writer)
    disk.failing = OSError(errno.EIO, "Input/output error")
    answers.ask("a")
    _until(lambda: len(answers.refused) == 1 and writer.sync_failures > 1)
    assert "Input/output error" in str(answers.refused[0])
    with pytest.raises(SpoolUnavailable, match=r"Input/output error.*on_spool_failure"):
        answers.ask("b")
    with pytest.raises(SpoolUnavailable):
        writer.check()
    disk.failing = None
    _until(lambda: writer._failure is None)
    answers.ask("c")
    _until(lambda: answers.told == ["c"])
    writer.close()


@TAILS
def test_a_house_after_a_power_cut_is_whole(tmp_path: Path, disk: Disk, tail: Tail) -> None:
    """Spool and lake cut at once, maintenance included: who was told is in the lake, once, and nothing is doubled."""
    writer, ingester = _writer(disk.root, segment_bytes=20_000), Ingester(Settings(data_dir=disk.root), dict)
    answers, stop = Answers(writer), threading.Event()

    def ingest() -> None:
        while not stop.is_set():
            ingester.run_once()
            for _report in maintain(Settings(data_dir=disk.root)):
                pass

    thread = threading.Thread(target=ingest)
    thread.start()
    told = []
    for life in range(4):
        for number in range(40):
            answers.ask(f"{life}-{number}")
            time.sleep(0.001)
        _until(lambda: ingester.rows > 0)
        told.append(list(answers.told))
        disk.cut(tmp_path / str(life), tail)
    stop.set()
    thread.join()
    writer.close()
    for life, names in enumerate(told):
        settings = Settings(data_dir=tmp_path / str(life))
        Ingester(settings, dict).run_once()
        rows = Counter(Lake(settings.data_dir / "lake" / "traffic").read(["id"])["id"].to_pylist())
        assert set(names) <= rows.keys()
        assert set(rows.values()) == {1}
        (report,) = verify(settings)
        assert (report.doubled, report.waiting, report.under_way) == (0, 0, 0)
        assert report.completed == report.recorded
        assert rehash(settings).is_sound
