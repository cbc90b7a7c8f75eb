"""Maintenance changes files, never rows, whatever else is at work."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gateway.ledger import maintenance, traffic
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import Step, maintain
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.gateway.ledger.records import begun, record


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """The settings' lake."""
    return Lake(settings.data_dir / "lake" / "traffic")


def _fill(lake: Lake, day: str, files: int, prefix: str = "") -> None:
    for number in range(files):
        rows = [record(f"{prefix}{day}-{number}-{account}", account=account) for account in "cab"]
        lake.append(to_table(rows, day))


def _files(settings: Settings) -> dict[str, int]:
    found = {report.step: report.files for report in maintain(settings)}
    assert list(found) == [step.name for step in maintenance.STEPS]
    return found


def test_closed_days_are_put_in_order_once(settings: Settings, lake: Lake) -> None:
    """A day becomes one file, sorted by account; the next night leaves it alone, until rows were added after all."""
    _fill(lake, "2026-11-01", 4)
    _fill(lake, "2026-11-02", 2)
    assert _files(settings)["order"] == 6
    assert (len(lake.paths("2026-11-01")), len(lake.paths("2026-11-02"))) == (1, 1)
    (path,) = lake.paths("2026-11-01")
    accounts = pq.ParquetFile(path).read(["account"])["account"].to_pylist()
    assert accounts == sorted(accounts)
    assert _files(settings)["order"] == 0
    _fill(lake, "2026-11-02", 1, "late-")
    assert _files(settings)["order"] == 2
    assert lake.read(["id"]).num_rows == 21
    assert rehash(settings).is_sound


def test_today_is_merged_and_not_ordered(settings: Settings, lake: Lake) -> None:
    """Its files become one; a day that still grows is not sorted again and again."""
    _fill(lake, traffic.today(), 3)
    assert _files(settings) == {"compact": 3, "order": 0, "erase replaced files": 0}
    assert len(lake.paths(traffic.today())) == 1
    assert _files(settings)["compact"] == 0


def test_a_follower_sees_nothing_of_it(settings: Settings, lake: Lake) -> None:
    """Who has read a row gets it no second time, and misses none."""
    _fill(lake, "2026-11-01", 2)
    _rows, version = lake.follow(-1, ["id"])
    _fill(lake, "2026-11-01", 1, "new-")
    _files(settings)
    rows, version = lake.follow(version, ["id"])
    assert {identifier[:4] for identifier in rows["id"].to_pylist()} == {"new-"}
    assert lake.follow(version, ["id"])[0].num_rows == 0


def test_notes_that_are_lost_cost_only_work(settings: Settings, lake: Lake) -> None:
    """Without them, or with damaged ones, a day is put in order again."""
    _fill(lake, "2026-11-01", 2)
    _files(settings)
    for text in ("", "[]", "{"):
        (settings.data_dir / "lake" / "ordered.json").write_text(text)
        assert _files(settings)["order"] == 1
    assert lake.read(["id"]).num_rows == 6


def test_an_empty_house_needs_nothing(settings: Settings) -> None:
    """Before there is a lake every step does nothing."""
    assert set(_files(settings).values()) == {0}


def test_steps_are_a_list(settings: Settings) -> None:
    """Whoever brings another step hands it in; each is told of as it ends."""
    seen: list[Path] = []

    def note(place: object) -> int:
        assert isinstance(place, Settings)
        seen.append(place.data_dir)
        return 3

    (report,) = maintain(settings, [Step("note", note)])
    assert (report.step, report.files, seen) == ("note", 3, [settings.data_dir])


def test_it_is_safe_under_live_writers(settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a worker writes, the ingester commits and a reader follows, days change and are put in order."""
    writer, ingester, stop = SpoolWriter(settings.data_dir / "spool", "w0"), Ingester(settings, dict), threading.Event()
    day = [1]
    monkeypatch.setattr(traffic, "today", lambda: f"2026-11-{day[0]:02d}")
    seen: list[str] = []

    def write() -> None:
        number = 0
        while not stop.wait(0.001):
            writer.start(begun(str(number)))
            writer.final(record(str(number)))
            number += 1

    def ingest() -> None:
        while not stop.is_set():
            day[0] = min(20, day[0] + (ingester.run_once() > 0))

    def follow() -> None:
        version, last = -1, False
        while not last:
            last = stop.is_set()
            rows, version = lake.follow(version, ["id"])
            seen.extend(rows["id"].to_pylist())

    threads = [threading.Thread(target=work) for work in (write, ingest, follow)]
    for thread in threads:
        thread.start()
    ordered = 0
    while day[0] < 20:
        ordered += _files(settings)["order"]
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    ingester.run_once()
    assert ordered > 0
    ids = Counter(lake.read(["id"])["id"].to_pylist())
    assert set(ids.values()) == {1}
    assert set(Counter(seen).values()) == {1}
    (report,) = verify(settings)
    assert (report.is_sound, report.completed) == (True, report.recorded)
    assert rehash(settings).is_sound
