"""`verify` finds what is lost and what is doubled, and is not alarmed by what is merely on its way."""

from __future__ import annotations

import threading
import time

import pyarrow as pa

from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter, segments
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.gateway.ledger.records import begun, record


def _writer(settings: Settings, slot: str = "w0") -> SpoolWriter:
    return SpoolWriter(settings.data_dir / "spool", slot)


def test_a_request_is_followed_from_its_start_to_the_lake(settings: Settings) -> None:
    """Under way, then waiting, then recorded: sound all along."""
    writer, ingester = _writer(settings), Ingester(settings, dict)
    writer.start(begun("a"))
    (report,) = verify(settings)
    assert (report.under_way, report.waiting, report.completed, report.is_sound) == (1, 0, 0, True)
    writer.final(record("a"))
    (report,) = verify(settings)
    assert (report.under_way, report.waiting, report.completed, report.recorded) == (0, 1, 1, 0)
    ingester.run_once()
    (report,) = verify(settings)
    assert (report.waiting, report.completed, report.recorded, report.is_sound) == (0, 1, 1, True)
    writer.close()


def test_the_interrupted_are_shown(settings: Settings) -> None:
    """What a dead writer had begun is neither completed nor lost."""
    writer = _writer(settings)
    writer.start(begun("a"))
    writer.final(record("b"))
    writer.close()
    Ingester(settings, dict).run_once()
    (report,) = verify(settings)
    assert (report.completed, report.recorded, report.interrupted, report.is_sound) == (1, 1, 1, True)


def test_a_lost_record_is_missed(settings: Settings) -> None:
    """A frame destroyed before it was ingested leaves a number that nothing accounts for."""
    writer = _writer(settings)
    for name in ("a", "b", "c"):
        writer.final(record(name))
    writer.close()
    (path,) = segments(settings.data_dir / "spool" / "w0")
    data = bytearray(path.read_bytes())
    data[data.index(b"question b")] ^= 0xFF
    path.write_bytes(bytes(data))
    Ingester(settings, dict).run_once()
    (report,) = verify(settings)
    assert not report.is_sound
    assert (report.missing, report.missing_numbers, report.completed) == (1, [2], 2)
    assert report.damaged > 100


def test_a_doubled_row_is_found(settings: Settings) -> None:
    """The same record number twice in the lake is said, with the number."""
    writer = _writer(settings)
    writer.final(record("a"))
    writer.final(record("b"))
    Ingester(settings, dict).run_once()
    again = to_table([record("b")])
    again = again.append_column("spool_stream", pa.array([writer.stream]))
    Lake(settings.data_dir / "lake" / "traffic").append(again.append_column("spool_number", pa.array([2], pa.int64())))
    (report,) = verify(settings)
    assert not report.is_sound
    assert (report.doubled, report.doubled_numbers, report.missing) == (1, [2], 0)
    writer.close()


def test_each_slot_is_verified_and_imports_are_not(settings: Settings) -> None:
    """Imported rows have no slot; every slot has a line, also one whose folder is gone."""
    writers = [_writer(settings, slot) for slot in ("w0", "w1")]
    for writer in writers:
        writer.final(record(writer.stream))
    Ingester(settings, dict).run_once()
    Lake(settings.data_dir / "lake" / "traffic").append(to_table([record("imported")]))
    for writer in writers:
        writer.close()
    for path in (settings.data_dir / "spool" / "w1").iterdir():
        path.unlink()
    reports = verify(settings)
    assert [report.stream for report in reports] == sorted(writer.stream for writer in writers)
    assert all(report.is_sound and report.recorded == 1 for report in reports)


def test_an_empty_house_is_sound(settings: Settings) -> None:
    """Before the first request there is nothing to miss."""
    assert verify(settings) == []


def test_it_is_right_while_everything_runs(settings: Settings) -> None:
    """A busy writer and a busy ingester raise no false alarm."""
    writer, ingester, stop = _writer(settings), Ingester(settings, dict), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            writer.start(begun(str(number)))
            writer.final(record(str(number)))
            number += 1
            time.sleep(0.001)

    def ingest() -> None:
        while not stop.is_set():
            ingester.run_once()

    threads = [threading.Thread(target=write), threading.Thread(target=ingest)]
    for thread in threads:
        thread.start()
    reports = [report for _look in range(10) for report in verify(settings)]
    stop.set()
    for thread in threads:
        thread.join()
    assert reports[-1].completed > 1
    assert all(report.is_sound for report in reports)
    writer.close()
