"""Decoders: rows made in processes beside the ingester are the rows it would have made, whatever becomes of them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.ledger import decoding, ingester
from gateway.ledger.decoding import Decoded, Decoders, decode
from gateway.ledger.frames import Kind, encode, payload_of
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter, segments
from gateway.ledger.verification import verify
from gateway.records import complete
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.gateway.ledger.records import record

_DEEP = orjson.Fragment(b"[" * 2000 + b"]" * 2000)  # more than JSON's reader goes into
_BEGIN_ONE = """
import sys, time
from gateway.ledger.decoding import Decoders
from gateway.ledger.frames import Kind, payload_of
decoders = Decoders(dict, 1)
decoders.submit([payload_of(Kind.FINAL, 1, 1, {"id": "a"})]).result()
process = decoders._idle.get()
print(process._process.pid, flush=True)
time.sleep(60)
"""


def _payloads(*records: dict[str, Any]) -> list[bytes]:
    return [payload_of(Kind.FINAL, number, number, value) for number, value in enumerate(records, 1)]


def test_a_decoder_makes_the_same_rows(caplog: pytest.LogCaptureFixture) -> None:
    """Texts, fields of other systems, numbers beyond 64 bits, and a record that nobody can read among them."""
    payloads = _payloads(record("a"), {**record("b"), "foreign": 2**70}, {"id": _DEEP}, record("c", tags=["x"]))
    here = decode(payloads, complete)
    decoders = Decoders(complete, 2)
    found = [decoders.submit(part).result() for part in (payloads, payloads, payloads[2:3], [])]
    decoders.close()
    assert caplog.text == ""  # they made them, not the ingester in their place
    assert here.unreadable == [2]
    assert here.rows["id"].to_pylist() == ["a", "b", "c"]
    assert [part.unreadable for part in found] == [[2], [2], [0], []]
    assert [part.rows.to_pylist() for part in found] == [here.rows.to_pylist()] * 2 + [[], []]


def test_what_a_decoder_logs_is_said_by_the_ingester(caplog: pytest.LogCaptureFixture) -> None:
    """It knows where logs go to and cuts credentials from them; the reason comes along."""
    broken = record("a", wire={"request": "no object"}, endpoint="chat.completions", model_requested="m")
    decoders = Decoders(complete, 1)
    with caplog.at_level(logging.ERROR):
        rows = decoders.submit(_payloads(broken)).result().rows
    decoders.close()
    assert rows["id"].to_pylist() == ["a"]
    (said,) = caplog.records
    assert said.name == "gateway.records"
    assert "kept as they came" in said.getMessage()
    assert "Traceback" in vars(said)["error"]


def test_a_killed_decoder_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What it was given is decoded by the ingester, which says so, and the next piece has a decoder again."""
    payloads = _payloads(record("a"))
    decoders = Decoders(dict, 1)
    decoders.submit(payloads).result()
    process = decoders._idle.get()
    assert process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    decoders._idle.put(process)
    assert decoders.submit(payloads).result().rows["id"].to_pylist() == ["a"]
    assert "a decoder ended" in caplog.text
    caplog.clear()
    assert decoders.submit(payloads).result().rows["id"].to_pylist() == ["a"]
    assert caplog.text == ""
    decoders.close()


@pytest.mark.parametrize("size", [1, 3_000_000], ids=["read from", "written to"])
def test_a_decoder_that_hangs_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """What it was given is decoded once it is late, whether it takes it or not; it is counted, another begins."""
    monkeypatch.setattr(decoding, "_SLOWEST_BYTES_S", 1e9)
    payloads = _payloads(record("a", prompt="x" * size))
    lost: list[None] = []
    decoders = Decoders(dict, 1, lambda: lost.append(None))
    decoders.submit(payloads).result()
    monkeypatch.setattr(decoding, "_ANSWER_S", 0.3)
    process = decoders._idle.get()
    assert process is not None
    os.kill(process._process.pid, signal.SIGSTOP)
    decoders._idle.put(process)
    assert decoders.submit(payloads).result(30).rows["id"].to_pylist() == ["a"]
    assert process._process.returncode == -signal.SIGKILL
    assert len(lost) == 1
    assert "a decoder ended (no answer in 0.3" in caplog.text
    monkeypatch.setattr(decoding, "_ANSWER_S", 60.0)
    caplog.clear()
    assert decoders.submit(payloads).result().rows["id"].to_pylist() == ["a"]
    assert (len(lost), caplog.text) == (1, "")
    decoders.close()


def test_a_hung_decoder_stops_no_ingestion(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of a backlog, it costs its time: every row is there once, and the ingester counts it."""
    monkeypatch.setattr(ingester, "_BACKLOG_BYTES", 1)
    monkeypatch.setattr(ingester, "_SHARED_BYTES", 1)
    monkeypatch.setattr(ingester, "_CHUNK", 5)
    writer = SpoolWriter(settings.data_dir / "spool", "w0", segment_bytes=4_000)
    for number in range(20):
        writer.final(record(str(number)))
    worker = Ingester(settings, dict)
    assert worker.run_once() == 20
    decoders = worker._decoders
    assert decoders is not None
    monkeypatch.setattr(decoding, "_ANSWER_S", 0.3)
    begun = [process for process in (decoders._idle.get(), decoders._idle.get()) if process is not None]
    for process in begun:
        os.kill(process._process.pid, signal.SIGSTOP)
        decoders._idle.put(process)
    for number in range(20, 40):
        writer.final(record(str(number)))
    assert worker.run_once() == 20
    assert worker.lost_decoders >= len(begun) > 0
    worker.close()
    rows = Lake(settings.data_dir / "lake" / "traffic").read(["id"])["id"].to_pylist()
    assert sorted(rows, key=int) == [str(number) for number in range(40)]
    (report,) = verify(settings)
    assert (report.is_sound, report.completed, report.recorded) == (True, 40, 40)
    assert len(segments(settings.data_dir / "spool" / "w0")) == 1
    writer.close()


def test_a_decoder_ends_with_its_ingester() -> None:
    """However the ingester ends, nothing is left of it."""
    parent = subprocess.Popen([sys.executable, "-c", _BEGIN_ONE], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    decoder = Path("/proc", parent.stdout.readline().decode().strip())
    assert decoder.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while decoder.exists() and "\nState:\tZ" not in (decoder / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_backlog_goes_through_decoders(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row arrives once and in its place; a frame that nobody can read keeps its segment as `.torn`."""
    for name in ("_BACKLOG_BYTES", "_SHARED_BYTES"):
        monkeypatch.setattr(ingester, name, 1)
    monkeypatch.setattr(ingester, "_CHUNK", 7)
    used: list[int] = []
    submit = Decoders.submit

    def counted(self: Decoders, payloads: list[bytes]) -> Any:
        used.append(len(payloads))
        return submit(self, payloads)

    monkeypatch.setattr(Decoders, "submit", counted)
    writer = SpoolWriter(settings.data_dir / "spool", "w0", segment_bytes=4_000)
    for number in range(40):
        writer.final(record(str(number)) if number != 3 else {"id": _DEEP})
    worker = Ingester(settings, dict)
    assert worker.run_once() == 39
    worker.close()
    rows = Lake(settings.data_dir / "lake" / "traffic").read(["id", "spool_number"]).to_pylist()
    assert {row["spool_number"]: row["id"] for row in rows} == {n + 1: str(n) for n in range(40) if n != 3}
    assert rehash(settings).is_sound
    assert sum(used) == 40
    damaged = len(encode(Kind.FINAL, 1, 1, {"id": _DEEP}))
    assert worker.damaged_bytes() == damaged
    folder = settings.data_dir / "spool" / "w0"
    assert len(list(folder.glob("*.torn"))) == 1
    assert len(segments(folder)) == 1
    writer.close()


def test_without_decoders_the_ingester_does_it_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spool.decoders = 0`, and whatever is too little to be worth their start."""

    def refuse(*_arguments: object) -> Decoded:
        raise AssertionError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    writer.final(record("a"))
    worker = Ingester(settings, dict)
    assert worker.run_once() == 1
    worker.close()
    writer.close()
