"""The ingester: every finished request once, those of dead writers as interrupted, whatever fails in between."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow.compute as pc
import pytest

from gateway.ledger.errors import Forbidden
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter, segments
from gateway.ledger.verification import verify
from gateway.settings import Settings, SpoolSettings
from tests.gateway.ledger.records import begun, record


def _writer(settings: Settings, slot: str = "w0", segment_bytes: int = 64_000_000) -> SpoolWriter:
    return SpoolWriter(settings.data_dir / "spool", slot, segment_bytes=segment_bytes)


def _lake(settings: Settings) -> Lake:
    return Lake(settings.data_dir / "lake" / "traffic")


def _ids(settings: Settings) -> list[str]:
    return sorted(_lake(settings).read(["id"])["id"].to_pylist())


def test_a_finished_request_reaches_the_lake_while_its_writer_lives(settings: Settings) -> None:
    """What the writer appends between two looks is taken up where the last look ended."""
    writer, ingester = _writer(settings), Ingester(settings, dict)
    for number in range(3):
        writer.start(begun(str(number)))
        writer.final(record(str(number)))
        assert ingester.run_once() == 1
    assert ingester.run_once() == 0
    assert _ids(settings) == ["0", "1", "2"]
    writer.close()


def test_the_record_keeps_its_fields_and_gains_a_fingerprint(settings: Settings) -> None:
    """The lake gives back what the gateway wrote, with what could be computed from its text."""
    writer = _writer(settings)
    written = record("a", usage={"input_tokens": 3, "source": "exact"}, store=True, cost=7)
    writer.final(written)
    Ingester(settings, dict).run_once()
    found = _lake(settings).record("a")
    assert found is not None
    fingerprint = found.pop("fingerprint")
    assert found == written
    assert (len(fingerprint["minhash"]), len(fingerprint["embedding"])) == (64, 128)
    assert fingerprint["skeleton"]
    writer.close()


def test_files_that_can_not_be_merged_are_no_failed_commit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are in the lake and count as such; merging is tried again some commits later."""
    monkeypatch.setattr(Lake, "tidy", Mock(side_effect=OSError("no merging now")))
    writer, ingester = _writer(settings), Ingester(settings, dict)
    ingester._commits_until_tidy = 1
    writer.final(record("a"))
    assert ingester.run_once() == 1
    assert ingester.rows == 1
    assert _ids(settings) == ["a"]
    writer.close()


def test_several_slots_are_one_commit(settings: Settings) -> None:
    """However many workers there are, a look adds one version to the lake's log."""
    writers = [_writer(settings, slot) for slot in ("w0", "w1", "w2")]
    ingester = Ingester(settings, dict)
    writers[0].final(record("first"))
    ingester.run_once()
    before = _lake(settings).version()
    for number, writer in enumerate(writers):
        writer.final(record(f"r{number}"))
    assert ingester.run_once() == 3
    assert _lake(settings).version() == before + 1
    for writer in writers:
        assert _lake(settings).last_transaction(writer.stream) is not None
        writer.close()


def test_a_kill_between_commit_and_deletion_doubles_nothing(settings: Settings) -> None:
    """Segments that the lake has already, found again by the next ingester, add no rows."""
    writer = _writer(settings, segment_bytes=2_000)
    for number in range(20):
        writer.start(begun(str(number)))
        writer.final(record(str(number)))
    writer.close()
    spool = settings.data_dir / "spool" / "w0"
    shutil.copytree(spool, settings.data_dir / "before")
    ingester = Ingester(settings, dict)
    assert ingester.run_once() == 20
    assert len(segments(spool)) == 1
    ingester.close()
    # The state a kill would have left: the commit stands, every segment is still there.
    shutil.copytree(settings.data_dir / "before", spool, dirs_exist_ok=True)
    assert Ingester(settings, dict).run_once() == 0
    assert len(_ids(settings)) == 20
    assert len(segments(spool)) == 1


def test_a_dead_writers_requests_are_shown_as_interrupted_once(settings: Settings) -> None:
    """With nobody at the slot any more, what was under way ends as status 0 and error `interrupted`."""
    writer = _writer(settings)
    writer.start(begun("lost"))
    writer.final(record("done"))
    ingester = Ingester(settings, dict)
    assert ingester.run_once() == 1
    writer.close()
    assert ingester.run_once() == 1
    assert ingester.run_once() == 0
    ingester.close()
    assert Ingester(settings, dict).run_once() == 0
    found = _lake(settings).record("lost")
    assert found is not None
    assert (found["status"], found["error"], found["model"]) == (0, "interrupted", "auto")
    assert _ids(settings) == ["done", "lost"]


def test_a_successor_at_the_slot_ends_what_its_predecessor_began(settings: Settings) -> None:
    """A worker that came back does not keep the requests of the one before it under way."""
    first = _writer(settings)
    first.start(begun("lost"))
    first.close()
    second = _writer(settings)
    second.start(begun("running"))
    ingester = Ingester(settings, dict)
    ingester.run_once()
    assert _ids(settings) == ["lost"]
    second.final(record("running"))
    ingester.run_once()
    assert _ids(settings) == ["lost", "running"]
    second.close()


def test_a_living_writers_requests_are_not_interrupted(settings: Settings) -> None:
    """A slow request is under way, however often the ingester looks and is itself restarted."""
    writer = _writer(settings, segment_bytes=1_000)
    writer.start(begun("slow"))
    for number in range(10):
        writer.final(record(str(number)))
    for _look in range(3):
        ingester = Ingester(settings, dict)
        ingester.run_once()
        ingester.close()
    assert "slow" not in _ids(settings)
    writer.final(record("slow"))
    Ingester(settings, dict).run_once()
    assert _ids(settings).count("slow") == 1
    writer.close()


def test_a_segment_stays_until_every_request_begun_in_it_has_ended(settings: Settings) -> None:
    """Without its start a request could not be shown as interrupted, so its segment is kept, and those behind it."""
    writer = _writer(settings, segment_bytes=1_000)
    writer.start(begun("slow"))
    for number in range(20):
        writer.final(record(str(number)))
    ingester = Ingester(settings, dict)
    ingester.run_once()
    kept = len(segments(settings.data_dir / "spool" / "w0"))
    assert kept > 3
    writer.final(record("slow"))
    ingester.run_once()
    assert len(segments(settings.data_dir / "spool" / "w0")) <= 2
    writer.close()


def test_a_torn_tail_is_reported_and_kept(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Half a frame at the end of a dead writer's segment costs nothing else, and its bytes stay for people to see."""
    writer = _writer(settings)
    writer.final(record("whole"))
    writer.close()
    folder = settings.data_dir / "spool" / "w0"
    with segments(folder)[-1].open("ab") as file:
        file.write(b"SpF1\x40\x00\x00\x00 torn")
    successor = _writer(settings)
    successor.final(record("next"))
    ingester = Ingester(settings, dict)
    assert ingester.run_once() == 2
    assert ingester.damaged_bytes() == 13
    assert "13 damaged bytes" in caplog.text
    assert [path.suffix for path in folder.iterdir() if path.suffix == ".torn"] == [".torn"]
    successor.close()


def test_a_half_written_frame_is_waited_for(settings: Settings) -> None:
    """At the end of a segment that is being written, half a frame is no damage: the other half is on its way."""
    writer = _writer(settings)
    writer.final(record("a"))
    path = segments(settings.data_dir / "spool" / "w0")[-1]
    whole = path.read_bytes()
    writer.final(record("b"))
    data = path.read_bytes()
    ingester = Ingester(settings, dict)
    path.write_bytes(data[: len(whole) + 20])
    assert ingester.run_once() == 1
    path.write_bytes(data)
    assert ingester.run_once() == 1
    assert ingester.damaged_bytes() == 0
    writer.close()


def test_a_lake_that_fails_is_tried_again(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """While the lake can't be written, records wait in the spool; when it can, they arrive once."""
    writer = _writer(settings)
    writer.final(record("a"))
    (settings.data_dir / "lake").write_text("a file where the lake's folder should be")
    settings = Settings(data_dir=settings.data_dir, spool=SpoolSettings(ingest_interval_s=0.02))
    ingester, stop = Ingester(settings, dict), threading.Event()
    thread = threading.Thread(target=ingester.run, args=(stop,))
    thread.start()
    _wait(lambda: ingester.failures > 0)
    (settings.data_dir / "lake").unlink()
    _wait(lambda: ingester.rows == 1)
    stop.set()
    thread.join()
    assert "nothing is lost" in caplog.text
    assert _ids(settings) == ["a"]
    writer.close()


def test_stopping_brings_home_what_was_spooled(settings: Settings) -> None:
    """An orderly end ingests once more, so that nothing waits for the next start."""
    stop = threading.Event()
    stop.set()
    writer = _writer(settings)
    writer.final(record("a"))
    Ingester(settings, dict).run(stop)
    assert _ids(settings) == ["a"]
    writer.close()


def test_there_is_one_ingester_of_a_data_folder(settings: Settings) -> None:
    """The second one is refused with the remedy; it is welcome when the first has closed."""
    first = Ingester(settings, dict)
    with pytest.raises(Forbidden, match=r"an ingester of .* runs already"):
        Ingester(settings, dict)
    first.close()
    Ingester(settings, dict).close()


def test_lag_says_how_far_behind_the_lake_is(settings: Settings) -> None:
    """Frames and bytes wait until they are read, and the time since a slot was last read up grows."""
    ingester, writer = Ingester(settings, dict), _writer(settings)
    ingester.run_once()
    assert (ingester.lag().frames, ingester.lag().seconds) == (0, 0.0)
    writer.start(begun("a"))
    writer.final(record("a"))
    time.sleep(0.02)
    lag = ingester.lag()
    assert lag.frames == 2
    assert lag.bytes > 100
    assert lag.seconds >= 0.02
    ingester.run_once()
    assert ingester.lag().bytes == 0
    writer.close()


def test_rows_say_which_frame_they_come_from(settings: Settings) -> None:
    """Slot stream and record number stand beside the record, so that verification can count them."""
    writer = _writer(settings)
    writer.start(begun("a"))
    writer.final(record("b"))
    writer.final(record("a"))
    Ingester(settings, dict).run_once()
    rows = _lake(settings).read(["id", "spool_stream", "spool_number"], pc.field("spool_number") > 0)
    assert {row["id"]: row["spool_number"] for row in rows.to_pylist()} == {"a": 1, "b": 2}
    assert set(rows["spool_stream"].to_pylist()) == {writer.stream}
    writer.close()


def _wait(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_damage_within_a_segment_costs_only_its_frame(settings: Settings) -> None:
    """A flipped bit is passed over, the frames around it are ingested, and verification will show the gap."""
    writer = _writer(settings)
    for name in ("a", "b", "c"):
        writer.final(record(name))
    writer.close()
    path: Path = segments(settings.data_dir / "spool" / "w0")[0]
    data = bytearray(path.read_bytes())
    data[data.index(b"question b")] ^= 0xFF
    path.write_bytes(bytes(data))
    assert Ingester(settings, dict).run_once() == 2
    assert _ids(settings) == ["a", "c"]


@pytest.mark.parametrize("failing", [1, 2, 3, 6])
def test_a_commit_that_fails_beside_the_reading_loses_and_doubles_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """What was read ahead of it is read again, from segments that are still there; a dead writer's requests too."""
    monkeypatch.setattr("gateway.ledger.ingester.BATCH_FRAMES", 7)
    first = _writer(settings, segment_bytes=1_000)
    for number in range(20):
        first.start(begun(str(number)))
        if number % 5:
            first.final(record(str(number)))
    first.close()
    second = _writer(settings, segment_bytes=1_000)
    for number in range(20, 30):
        second.final(record(str(number)))
    append = Lake.append
    calls: list[None] = []

    def fail_once(lake: Lake, *arguments: Any) -> int:
        calls.append(None)
        if len(calls) == failing:
            raise OSError("no space")
        return append(lake, *arguments)

    monkeypatch.setattr(Lake, "append", fail_once)
    ingester = Ingester(settings, dict)
    with pytest.raises(OSError, match="no space"):
        ingester.run_once()
    ingester.run_once()
    assert len(calls) > failing
    assert _ids(settings) == sorted(map(str, range(30)))
    assert [report.is_sound for report in verify(settings)] == [True]
    assert len(segments(settings.data_dir / "spool" / "w0")) == 1
    second.close()
