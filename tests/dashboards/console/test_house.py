"""What runs, as the console tells it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dashboards.console import house
from gateway.ledger import house_status
from gateway.ledger.house_status import HouseStatus, ProcessStatus
from gateway.ledger.identifiers import now
from gateway.settings import Settings
from tests.dashboards.conftest import Person

TEACHER = ProcessStatus("teacher", "model", "ready", now(), 7, 0, "http://127.0.0.1:8001", "logs/teacher.log")
DETECTOR = ProcessStatus(
    "detector", "service", "waiting", now(), None, 3, None, "logs/detector.log", "ended with status 1"
)


def test_a_house_that_is_gone_keeps_nothing(tmp_path: Path) -> None:
    """A status that nobody has renewed says nothing of now, and neither does a missing one."""
    assert house.servers(tmp_path) == {}
    house_status.write(tmp_path, HouseStatus(now() - timedelta(minutes=5), 1, (TEACHER, DETECTOR)))
    assert house.servers(tmp_path) == {}
    assert house.detector(tmp_path) is None


def test_a_detector_that_is_down_is_said_in_the_queue(mara: Person, settings: Settings) -> None:
    """An empty queue must not be mistaken for a quiet night."""
    assert "The detector is" not in mara.get("/")
    house_status.write(settings.data_dir, HouseStatus(now(), 1, (TEACHER, DETECTOR)))
    page = mara.get("/")
    assert "The detector is waiting, so new traffic is not watched: ended with status 1" in page
    assert "ready" in mara.get("/models")
