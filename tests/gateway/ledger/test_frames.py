"""Frames: damaged bytes are found, told apart from a tail still being written, and never hide what follows."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.ledger.frames import Kind, encode, read_segment

FRAMES = [encode(Kind.FINAL, number, number, {"id": f"r{number}", "text": "x" * 50}) for number in range(1, 5)]


def _write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    """The end of one frame is where the next begins."""
    path = _write(tmp_path / "a.seg", *FRAMES)
    first = next(iter(read_segment(path)))
    assert first.end == len(FRAMES[0])
    assert [frame.number for frame in read_segment(path, first.end)] == [2, 3, 4]


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 40])
def test_a_torn_tail_ends_the_reading(tmp_path: Path, cut: int) -> None:
    """A last frame that is not whole is not a frame, wherever it was cut."""
    path = _write(tmp_path / "a.seg", *FRAMES[:2], FRAMES[2][:cut])
    assert [frame.number for frame in read_segment(path)] == [1, 2]


@pytest.mark.parametrize("position", [0, 5, 9, 30], ids=["magic", "length", "checksum", "payload"])
def test_a_flipped_bit_costs_one_frame(tmp_path: Path, position: int) -> None:
    """The damaged frame is reported with its place and size; those behind it are read."""
    damaged = bytearray(FRAMES[1])
    damaged[position] ^= 0x80
    path = _write(tmp_path / "a.seg", FRAMES[0], bytes(damaged), *FRAMES[2:])
    frames = list(read_segment(path))
    assert [frame.kind for frame in frames] == [Kind.FINAL, Kind.DAMAGED, Kind.FINAL, Kind.FINAL]
    assert [frame.number for frame in frames] == [1, 0, 3, 4]
    assert frames[1].record == {"bytes": len(damaged), "at": len(FRAMES[0])}


def test_an_empty_segment_has_no_frames(tmp_path: Path) -> None:
    """A file that was made and never written to is no error."""
    assert list(read_segment(_write(tmp_path / "a.seg"))) == []


def test_a_record_that_nobody_can_read_costs_itself_alone(tmp_path: Path) -> None:
    """Whole by its checksum and no JSON all the same: it is passed over, and those behind it are read."""
    odd = encode(Kind.FINAL, 2, 2, {"id": orjson.Fragment(b"[" * 2000 + b"]" * 2000)})
    path = _write(tmp_path / "a.seg", FRAMES[0], odd, *FRAMES[2:])
    frames = list(read_segment(path))
    assert [frame.kind for frame in frames] == [Kind.FINAL, Kind.DAMAGED, Kind.FINAL, Kind.FINAL]
    assert frames[1].record == {"bytes": len(odd), "at": len(FRAMES[0])}
