"""`spiritsafe detector` and `spiritsafe alerts` as people and programs call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from detector.commands import alerts, detector
from detector.service import Service
from gateway.ledger import accounts, operators
from gateway.settings import load_settings
from tests.control_plane import fresh
from tests.detector import histories
from tests.detector.histories import Record

SCORE_FIELDS = {
    "account",
    "score",
    "severity",
    "abstained",
    "reasons",
    "first_alert_at",
    "requests_before_alert",
    "teacher_tokens_before_alert",
    "set_id",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, scene_rows: list[Record]) -> Path:
    """Return the settings file of a house whose lake holds two accounts, one of which has an alert."""
    folder = tmp_path_factory.mktemp("house")
    file = folder / "spiritsafe.toml"
    file.write_text('[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:8001"]\n')
    settings = load_settings(file, {})
    rows = [row for row in scene_rows if row["account"] in ("harvester", "rag")]
    histories.fill_lake(settings.data_dir / "lake" / "traffic", rows)
    database = fresh(settings.database_url)
    with database.write() as connection:
        for name in ("harvester", "rag"):
            accounts.create(connection, accounts.new(name), "test")
        operators.create(connection, "ada", "a long enough password", "test")
    Service(settings, database).round()
    database.close()
    return file


def test_score_prints_the_documented_objects(config: Path) -> None:
    """One JSON object per account, with the fields that the traffic record's documentation lists."""
    harvester, rag = _lines(detector, "score", "--json", "--config", str(config))
    assert harvester.keys() >= SCORE_FIELDS
    assert (harvester["account"], harvester["severity"]) == ("harvester", "medium")
    assert harvester["first_alert_at"].endswith("Z")
    assert (rag["severity"], rag["first_alert_at"], rag["reasons"]) == ("none", None, [])


def test_daily_scores_change_on_the_day_that_the_use_changed(config: Path) -> None:
    """One object per account and day: no alert on any day of the history, one on the last."""
    rows = _lines(detector, "score", "--daily", "--json", "--config", str(config))
    days = [row for row in rows if row["account"] == "harvester"]
    assert len(days) == histories.DAYS + 1
    assert {row["severity"] for row in days[:-1]} <= {"none", "low"}
    assert {row["first_alert_at"] for row in days[:-1]} == {None}
    assert days[-1]["severity"] in ("medium", "high")


def test_thresholds_that_catch_the_harvester_are_told(config: Path) -> None:
    """The baselines run on the same traffic and say whom else they would catch."""
    rows = _lines(detector, "thresholds", "--catch", "harvester", "--json", "--config", str(config))
    assert [row["baseline"] for row in rows] == ["RequestRateThreshold", "TokenThreshold"]
    assert all("also_caught" in row for row in rows)


def test_alerts_are_listed_shown_and_decided(config: Path) -> None:
    """The open alert is found, shown with its reasons, closed once with a note, and not a second time."""
    (listed,) = _lines(alerts, "list", "--state", "open", "--json", "--config", str(config))
    shown = CliRunner().invoke(alerts, ["show", listed["id"], "--config", str(config)]).output
    assert "different things" in shown
    command = ["decide", listed["id"], "--action", "suspend", "--note", "collects answers", "--for", "7d"]
    stranger = CliRunner().invoke(alerts, [*command, "--operator", "nobody", "--config", str(config)])
    assert stranger.exit_code == 1
    (decided,) = _lines(alerts, *command, "--operator", "ada", "--json", "--config", str(config))
    assert (decided["state"], decided["operator"]) == ("confirmed", "ada")
    again = CliRunner().invoke(alerts, [*command, "--operator", "ada", "--config", str(config)])
    assert again.exit_code == 1
    assert "decided already" in again.output


def _lines(command: Any, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]
