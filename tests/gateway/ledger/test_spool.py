"""The spool's writer: acknowledged frames are in the file, numbers go on, and failures say what to do."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.frames import Frame, Kind
from gateway.ledger.spool import SpoolWriter, read_segment, segments, slots, stream_of
from tests.conftest import ROOT
from tests.gateway.ledger.records import begun, record


def _frames(directory: Path, slot: str = "w0") -> list[Frame]:
    return [frame for path in segments(directory / slot) for frame in read_segment(path)]


def test_an_acknowledged_record_is_in_the_file_at_once(tmp_path: Path) -> None:
    """Nothing waits in a buffer of the process: another reader sees the frame as soon as `final` returns."""
    writer = SpoolWriter(tmp_path, "w0", group_commit_s=60)
    writer.start(begun("a"))
    writer.final(record("a", user="Ünïcode"))
    kinds = [(frame.kind, frame.number) for frame in _frames(tmp_path)]
    assert kinds == [(Kind.HEAD, 0), (Kind.START, 1), (Kind.FINAL, 1)]
    assert _frames(tmp_path)[-1].record == record("a", user="Ünïcode")
    writer.close()


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """The next writer of the slot continues both counts, so that a gap or a double can be told."""
    first = SpoolWriter(tmp_path, "w0")
    first.start(begun("a"))
    first.final(record("a"))
    first.close()
    second = SpoolWriter(tmp_path, "w0")
    second.final(record("b"))
    second.close()
    frames = _frames(tmp_path)
    assert [frame.frame for frame in frames] == [1, 2, 3, 4, 5]
    assert [frame.number for frame in frames if frame.kind is Kind.FINAL] == [1, 2]
    assert first.stream == second.stream


def test_a_final_without_a_start_has_a_number_of_its_own(tmp_path: Path) -> None:
    """A refused request is recorded without having been forwarded, beside others that are under way."""
    writer = SpoolWriter(tmp_path, "w0")
    writer.start(begun("a"))
    writer.final(record("refused", status=429))
    writer.final(record("a"))
    writer.close()
    finals = {frame.record["id"]: frame.number for frame in _frames(tmp_path) if frame.kind is Kind.FINAL}
    assert finals == {"refused": 2, "a": 1}


def test_segments_rotate_and_each_begins_with_a_head(tmp_path: Path) -> None:
    """A full segment is followed by another that says so itself; nothing is split between them."""
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=2_000)
    for number in range(30):
        writer.final(record(str(number)))
    writer.close()
    heads = [next(iter(read_segment(path))) for path in segments(tmp_path / "w0")]
    assert len(heads) >= 3
    assert [head.record["opened"] for head in heads] == [True] + [False] * (len(heads) - 1)
    assert all(path.stat().st_size <= 2_000 for path in segments(tmp_path / "w0"))
    assert [frame.frame for frame in _frames(tmp_path)] == list(range(1, 31 + len(heads)))


def test_a_record_larger_than_a_segment_is_taken(tmp_path: Path) -> None:
    """The segment's size bounds files, never what a request may say."""
    writer = SpoolWriter(tmp_path, "w0", segment_bytes=1_000)
    writer.final(record("large", prompt="x" * 50_000))
    writer.close()
    assert _frames(tmp_path)[-1].record["prompt"] == "x" * 50_000


def test_a_slot_has_one_writer(tmp_path: Path) -> None:
    """The second writer is refused with the remedy; after the first has closed it is welcome."""
    first = SpoolWriter(tmp_path, "w0")
    with pytest.raises(SpoolUnavailable, match=r"slot w0 is in use by another process: .*--slot"):
        SpoolWriter(tmp_path, "w0", wait_s=0)
    first.close()
    SpoolWriter(tmp_path, "w0", wait_s=0).close()


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    """A record that comes after the end is refused aloud, not lost in silence; closing twice is harmless."""
    writer = SpoolWriter(tmp_path, "w0")
    writer.close()
    writer.close()
    with pytest.raises(SpoolUnavailable, match="closed"):
        writer.final(record("late"))


@pytest.mark.parametrize(
    "odd",
    [{"parameters": {"seed": 2**70}}, {"user": "half a pair: \ud800"}, {"metadata": {"nothing": None, "list": [1.5]}}],
    ids=["beyond 64 bits", "lone surrogate", "nested"],
)
def test_any_json_survives(tmp_path: Path, odd: dict[str, Any]) -> None:
    """What a client may send in JSON comes back as it was, also where orjson has no word for it."""
    writer = SpoolWriter(tmp_path, "w0")
    writer.final(record("odd", **odd))
    writer.close()
    assert _frames(tmp_path)[-1].record == record("odd", **odd)


def test_a_place_that_can_not_be_written_says_what_to_do(tmp_path: Path) -> None:
    """The error names the folder and the setting that lets the gateway go on without it."""
    (tmp_path / "w0").write_text("a file where the slot's folder should be")
    with pytest.raises(SpoolUnavailable, match=r"w0 can't take a record .*gateway\.on_spool_failure"):
        SpoolWriter(tmp_path, "w0")


_FULL_DISK = """
import resource, sys
from pathlib import Path
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.spool import SpoolWriter
from tests.gateway.ledger.records import record

writer = SpoolWriter(Path(sys.argv[1]), "w0")
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
taken = []
for number in range(20):
    try:
        writer.final(record(str(number)))
        taken.append(number)
    except SpoolUnavailable:
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.final(record("after"))
writer.close()
print(len(taken))
"""


def test_a_disk_that_fills_up_refuses_and_recovers(tmp_path: Path) -> None:
    """A frame that fits only in part leaves no trace; with space again the same segment goes on."""
    result = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    taken = int(result.stdout)
    assert 3 <= taken < 20
    finals = [frame.record["id"] for frame in _frames(tmp_path) if frame.kind is Kind.FINAL]
    assert finals == [str(number) for number in range(taken)] + ["after"]
    assert not any(frame.kind is Kind.DAMAGED for frame in _frames(tmp_path))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_segment_without_a_whole_head_is_put_aside(tmp_path: Path) -> None:
    """A writer killed while it began a segment does not keep the next one from counting on."""
    first = SpoolWriter(tmp_path, "w0")
    first.final(record("a"))
    first.close()
    (tmp_path / "w0" / f"{3:020d}.seg").write_bytes(b"SpF1\x10")
    second = SpoolWriter(tmp_path, "w0")
    second.final(record("b"))
    second.close()
    assert [frame.number for frame in _frames(tmp_path) if frame.kind is Kind.FINAL] == [1, 2]
    assert len(list((tmp_path / "w0").glob("*.torn"))) == 1


def test_a_new_folder_is_a_new_stream(tmp_path: Path) -> None:
    """A slot whose folder was removed counts from 1 under another name, which old marks in the lake do not hide."""
    first = SpoolWriter(tmp_path, "w0")
    first.close()
    for path in (tmp_path / "w0").iterdir():
        path.unlink()
    assert slots(tmp_path) == []
    second = SpoolWriter(tmp_path, "w0")
    second.close()
    assert first.stream != second.stream
    assert stream_of(tmp_path / "w0") == second.stream
    assert slots(tmp_path) == [tmp_path / "w0"]
