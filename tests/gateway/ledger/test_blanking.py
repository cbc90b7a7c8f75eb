"""Records are taken out of segments in place: numbers and neighbours stay, and everything that counts goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.ledger import blanking
from gateway.ledger.blanking import Waiting, blank
from gateway.ledger.frames import Kind
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spending import Spending
from gateway.ledger.spool import SpoolWriter, read_segment, segments
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.gateway.ledger.records import begun, record

EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture
def writer(settings: Settings) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    yield writer
    writer.close()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.data_dir / "lake" / "traffic")


def _ingest(settings: Settings) -> None:
    ingester = Ingester(settings, dict)
    ingester.run_once()
    ingester.close()


def _of_app(found: Mapping[str, Any]) -> bool:
    return found.get("account") == "app"


def _spooled(settings: Settings) -> bytes:
    return b"".join(path.read_bytes() for path in (settings.data_dir / "spool").rglob("*") if path.is_file())


def test_a_record_goes_and_its_neighbours_stay(settings: Settings, writer: SpoolWriter, lake: Lake) -> None:
    """Same kinds, numbers and lengths; not a byte of the account's text or name; the writer goes on in the file."""
    for name in ("a", "b", "c"):
        writer.start(begun(name) | {"account": "other" if name == "b" else "app"})
        writer.final(record(name, account="other" if name == "b" else "app"))
    _ingest(settings)
    (path,) = segments(settings.data_dir / "spool" / "w0")
    before = list(read_segment(path))
    assert blank(settings.data_dir / "spool", lake, _of_app) == (2, Waiting())
    after = list(read_segment(path))
    assert [(f.kind, f.frame, f.number, f.end) for f in after] == [(f.kind, f.frame, f.number, f.end) for f in before]
    assert b"question b" in _spooled(settings)
    assert b"question a" not in _spooled(settings)
    assert b'"app"' not in _spooled(settings)
    assert blank(settings.data_dir / "spool", lake, _of_app) == (0, Waiting())
    writer.final(record("d"))
    _ingest(settings)
    (report,) = verify(settings)
    assert (report.is_sound, report.completed) == (True, 4)


def test_what_the_lake_lacks_has_to_wait(settings: Settings, writer: SpoolWriter, lake: Lake) -> None:
    """Neither a request under way nor a finished one that was not ingested is touched."""
    writer.start(begun("under way"))
    writer.final(record("unread"))
    before = _spooled(settings)
    assert blank(settings.data_dir / "spool", lake, _of_app) == (0, Waiting(under_way=1, unread=1))
    assert _spooled(settings) == before
    writer.final(record("under way"))
    _ingest(settings)
    assert blank(settings.data_dir / "spool", lake, _of_app) == (2, Waiting())


def test_a_dead_workers_requests_are_not_under_way(settings: Settings, lake: Lake) -> None:
    """Once the lake shows them as interrupted, their start frames go too."""
    first = SpoolWriter(settings.data_dir / "spool", "w0")
    first.start(begun("a"))
    first.close()
    _ingest(settings)
    _ingest(settings)
    assert lake.read(["error"])["error"].to_pylist() == ["interrupted"]
    assert blank(settings.data_dir / "spool", lake, _of_app)[1] == Waiting()
    assert b'"app"' not in _spooled(settings)


def test_a_kill_between_journal_and_frame_is_made_good(
    settings: Settings, writer: SpoolWriter, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn frame is written whole by the next attempt, although nobody can read any more what it was."""
    writer.final(record("a"))
    writer.final(record("b"))
    _ingest(settings)
    (path,) = segments(settings.data_dir / "spool" / "w0")

    def torn(target: Any, pieces: list[tuple[int, bytes]]) -> None:
        data = bytearray(target.read_bytes())
        start, piece = pieces[0]
        data[start : start + len(piece) // 2] = piece[: len(piece) // 2]
        target.write_bytes(data)
        raise KeyboardInterrupt

    monkeypatch.setattr(blanking, "_write", torn)
    with pytest.raises(KeyboardInterrupt):
        blank(settings.data_dir / "spool", lake, _of_app)
    monkeypatch.undo()
    assert Kind.DAMAGED in [frame.kind for frame in read_segment(path)]
    blank(settings.data_dir / "spool", lake, _of_app)
    assert [frame.kind for frame in read_segment(path)] == [Kind.HEAD, Kind.FINAL, Kind.FINAL]
    assert b"question" not in _spooled(settings)


def test_damaged_bytes_are_nobodys_and_go(settings: Settings, writer: SpoolWriter, lake: Lake) -> None:
    """A stretch that no frame can be read from might quote anybody, and so might a file kept as torn."""
    writer.final(record("a"))
    writer.final(record("b"))
    (path,) = segments(settings.data_dir / "spool" / "w0")
    data = bytearray(path.read_bytes())
    data[data.index(b"question a") - 1] ^= 0xFF
    path.write_bytes(bytes(data))
    torn = path.with_suffix(".torn")
    torn.write_bytes(b"question x")
    assert blanking.discard_damaged(settings.data_dir / "spool") == [torn]
    assert b"question a" not in _spooled(settings)
    assert b"question x" not in _spooled(settings)
    assert [frame.kind for frame in read_segment(path)] == [Kind.HEAD, Kind.DAMAGED, Kind.FINAL]


def test_the_smallest_record_fits(settings: Settings, writer: SpoolWriter, lake: Lake) -> None:
    """A record with hardly more than its id is overwritten by one of the same length."""
    writer.final({"id": "abcdef0123456789", "account": "app"})
    (path,) = segments(settings.data_dir / "spool" / "w0")
    size = path.stat().st_size
    lake.append(to_table([]), {writer.stream: 100})
    assert blank(settings.data_dir / "spool", lake, _of_app) == (1, Waiting())
    assert path.stat().st_size == size
    assert b"app" not in _spooled(settings)


def test_what_was_blanked_is_spent_all_the_same(settings: Settings, writer: SpoolWriter, lake: Lake) -> None:
    """The lake has the record with its cost, which the frame in the spool must not stand in for."""
    writer.final(record("a", cost=7, origin="live"))
    _ingest(settings)
    blank(settings.data_dir / "spool", lake, _of_app)
    assert Spending(settings, EPOCH).of("account", "app", EPOCH) == 7
