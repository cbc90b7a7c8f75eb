"""The service over a real lake and a real control plane."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from detector.service import PROCESS, Service
from gateway.ledger import accounts, alerts, metric_files
from gateway.ledger.database import Database
from gateway.ledger.errors import LakeUnreachable
from gateway.ledger.lake import Lake
from gateway.settings import DetectorSettings, Settings, load_settings
from tests.control_plane import fresh
from tests.detector import histories
from tests.detector.histories import Record
from tests.gateway.house.waiting import eventually


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings that write below a temporary folder."""
    loaded = load_settings(None, {"SPIRITSAFE_DATA_DIR": str(tmp_path)})
    return dataclasses.replace(loaded, detector=DetectorSettings(interval_s=0.05))


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Return a control plane that knows the scene's harvester and chat app."""
    opened = fresh(settings.database_url)
    with opened.write() as connection:
        for name in ("harvester", "chat"):
            accounts.create(connection, accounts.new(name), "test")
    yield opened
    opened.close()


@pytest.fixture
def rows(scene_rows: list[Record]) -> list[Record]:
    """Return two accounts of the scene."""
    return [row for row in scene_rows if row["account"] in ("harvester", "chat")]


def test_rounds_follow_the_lake_and_name_the_harvester(
    settings: Settings, database: Database, rows: list[Record]
) -> None:
    """History raises nothing; when the live rows come in, one alert is raised, and in time."""
    service, lake = Service(settings, database), Lake.of(settings)
    assert service.round().rows == 0
    lake.append(histories.to_table([row for row in rows if row["origin"] == "imported"]))
    assert service.round().raised == 0
    live = [row for row in rows if row["origin"] == "live"]
    for start in range(0, len(live), 200):
        lake.append(histories.to_table(live[start : start + 200]))
        service.round()
    with database.read() as connection:
        (alert,) = alerts.every(connection)
    assert alert.account == "harvester"
    assert 0 < alert.evidence["live_requests_before_alert"] < 500
    assert service.round().rows == 0


def test_a_restart_goes_on_from_the_checkpoint(
    settings: Settings, database: Database, rows: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is not read again, nothing is lost, no alert is repeated, and the same is said as without it."""
    lake = Lake.of(settings)
    lake.append(histories.to_table([row for row in rows if row["origin"] == "imported"]))
    first = Service(settings, database)
    first.round()
    first.keep()
    lake.append(histories.to_table([row for row in rows if row["origin"] == "live"]))
    asked: list[int] = []
    follow = Lake.follow

    def noted(lake: Lake, since: int, columns: Sequence[str] | None = None) -> tuple[pa.Table, int]:
        asked.append(since)
        return follow(lake, since, columns)

    monkeypatch.setattr(Lake, "follow", noted)
    second, whole = Service(settings, database), Service(settings, database)
    whole.start_over()
    assert second.round().rows < whole.round().rows == len(rows)
    assert asked[0] >= 0 > asked[1]
    for name in ("harvester", "chat"):
        assert second.watch.assess(name).peak == pytest.approx(whole.watch.assess(name).peak, rel=1e-3)
    with database.read() as connection:
        assert len(alerts.every(connection)) == 1


def test_a_checkpoint_that_cannot_be_read_costs_time_only(
    settings: Settings, database: Database, rows: list[Record]
) -> None:
    """A damaged file is set aside with a warning, and the lake is read from its beginning."""
    Lake.of(settings).append(histories.to_table(rows))
    first = Service(settings, database)
    first.round()
    first.keep()
    kept = settings.data_dir / "detector" / "state"
    kept.write_bytes(kept.read_bytes()[:1000])
    assert Service(settings, database).round().rows == len(rows)


def test_an_account_that_is_being_erased_is_forgotten(
    settings: Settings, database: Database, rows: list[Record]
) -> None:
    """From the tombstone on neither the service nor its file knows the account."""
    lake = Lake.of(settings)
    lake.append(histories.to_table(rows))
    service = Service(settings, database)
    service.round()
    service.keep()
    kept = settings.data_dir / "detector" / "state"
    assert b"harvester" in kept.read_bytes()
    lake.hide("harvester")
    service.round()
    service.keep()
    assert service.watch.book.names == ["chat"]
    assert b"harvester" not in kept.read_bytes()


def test_a_lake_that_does_not_answer_is_waited_for(
    settings: Settings, database: Database, rows: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen is kept, the lag grows, and it goes on where it was once the lake answers."""
    service, lake, stop = Service(settings, database), Lake.of(settings), threading.Event()
    lake.append(histories.to_table(rows[:50]))
    assert service.round().rows == 50
    silent = threading.Event()
    silent.set()
    version = service._lake.version

    def answer() -> int:
        if silent.is_set():
            raise LakeUnreachable("no answer")
        return version()

    monkeypatch.setattr(service._lake, "version", answer)
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    lake.append(histories.to_table(rows[50:80]))
    counted = service.metrics.registry.get_sample_value
    eventually(lambda: (counted("spiritsafe_detector_lag_seconds") or 0) > 0.3, 30)
    silent.clear()
    eventually(lambda: counted("spiritsafe_detector_rows_total") == 80, 30)
    stop.set()
    thread.join(30)


def test_its_metrics_are_published(settings: Settings, database: Database, rows: list[Record]) -> None:
    """The operator process finds lag, accounts, alerts and the cost of rounds among the published metrics."""
    Lake.of(settings).append(histories.to_table(rows))
    service, stop = Service(settings, database), threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(30)
    service.round()
    metric_files.publish(settings.data_dir / "metrics", "detector", service.metrics.registry)
    text = metric_files.merge(settings.data_dir / "metrics")
    assert 'spiritsafe_detector_accounts{process="detector"} 2.0' in text
    raised = [f'spiritsafe_detector_alerts_raised_total{{severity="{name}"}} 1.0' for name in ("medium", "high")]
    assert sum(line in text for line in raised) == 1
    assert "spiritsafe_detector_lag_seconds" in text
    assert "spiritsafe_detector_round_seconds_bucket" in text


def test_the_house_starts_it_by_these_arguments() -> None:
    """What the entry point names are arguments of the `spiritsafe` command."""
    assert PROCESS == ("detector", "run")
