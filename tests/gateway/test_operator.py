"""The operator process: metrics of all processes, its doors, and pages of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter

from gateway import operator
from gateway.ledger import accounts, alerts, canaries, metric_files
from gateway.ledger.database import Database
from gateway.settings import OperatorSettings, Settings
from tests.control_plane import fresh
from tests.postgresql import PostgresServer


@pytest.fixture
def settings(tmp_path: Path, control_url: str) -> Settings:
    """An empty installation."""
    return Settings(data_dir=tmp_path / "data", database=control_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Its control plane."""
    database = fresh(settings.database_url)
    yield database
    database.close()


def mount_page(app: FastAPI, settings: Settings, database: Database) -> None:
    """Add a page, as the console does."""

    @app.get("/page")
    def page() -> str:
        return database.url


def mount_nothing(app: FastAPI, settings: Settings, database: Database) -> None:
    """Fail, as a broken page does."""
    raise RuntimeError("broken")


def test_metrics_of_all_processes(settings: Settings, database: Database) -> None:
    """One scrape shows what other processes published and the open alerts, and no account."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("org-4411"), "test")
        alerts.raise_or_update(connection, "org-4411", "high", 0.9, [], {"leaked_tokens": 4711, "examples": []})
    registry = CollectorRegistry()
    Counter("spiritsafe_thing", "Things.", registry=registry).inc(3)
    metric_files.publish(settings.data_dir / "metrics", "gateway-w0", registry)
    client = TestClient(operator.create_app(settings, database))
    for _ in range(2):  # A second scrape must not count the first.
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "spiritsafe_thing_total 3.0" in answer.text
        assert 'spiritsafe_open_alerts{process="operator",severity="high"} 1.0' in answer.text
        assert 'spiritsafe_open_alerts_leaked_tokens{process="operator",severity="high"} 4711.0' in answer.text
        assert 'spiritsafe_snapshots{process="operator",state="waiting"} 0.0' in answer.text
        assert "org-4411" not in answer.text


@pytest.mark.postgresql
def test_metrics_are_there_while_the_database_is_away(
    tmp_path: Path, postgres: PostgresServer, postgres_database: Database
) -> None:
    """Other processes' figures are wanted all the more then; what is not known is left out."""
    settings = Settings(data_dir=tmp_path, database=postgres_database.url)
    registry = CollectorRegistry()
    Counter("spiritsafe_thing", "Things.", registry=registry).inc(3)
    metric_files.publish(settings.data_dir / "metrics", "gateway-w0", registry)
    client = TestClient(operator.create_app(settings, postgres_database))
    assert 'spiritsafe_open_alerts{process="operator",severity="high"} 0.0' in client.get("/metrics").text
    postgres.stop()
    try:
        answer = client.get("/metrics")
    finally:
        postgres.start()
    assert (answer.status_code, "spiritsafe_thing_total 3.0" in answer.text) == (200, True)
    assert "spiritsafe_open_alerts{" not in answer.text
    assert 'severity="high"} 0.0' in client.get("/metrics").text


def test_the_scrape_token(settings: Settings, database: Database) -> None:
    """With a scrape token set, /metrics is for its bearer alone; health stays open."""
    guarded = replace(settings, operator=OperatorSettings(scrape_token="s3cret-ü"))
    client = TestClient(operator.create_app(guarded, database))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
    right = {b"authorization": "Bearer s3cret-ü".encode()}
    assert client.get("/metrics", headers=right).status_code == 200
    assert client.get("/health").json() == {"status": "ok"}


def test_the_admin_api_is_there(settings: Settings, database: Database) -> None:
    """The admin API lives below /admin/v1, and what it does not know is answered in its shape."""
    client = TestClient(operator.create_app(settings, database))
    assert client.get("/admin/v1/accounts").json()["error"]["type"] == "authentication_error"
    assert "/accounts" in client.get("/admin/v1/openapi.json").json()["paths"]


def test_pages_of_other_packages(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contributed page is mounted; a broken one leaves the others and the API standing."""
    here = "tests.gateway.test_operator"
    points = [EntryPoint(name, f"{here}:{name}", operator.GROUP) for name in ("mount_nothing", "mount_page")]
    points.append(EntryPoint("gone", f"{here}_gone:mount", operator.GROUP))
    monkeypatch.setattr(operator, "entry_points", lambda group: points)
    client = TestClient(operator.create_app(settings, database))
    assert client.get("/page").json() == database.url
    assert client.get("/admin/v1/accounts").status_code == 401


def test_a_canarys_newest_run_is_told_without_its_name(settings: Settings, database: Database) -> None:
    """Its age counts from when it was last found, whatever missed since; without a canary all is 0."""
    client = TestClient(operator.create_app(settings, database))

    def figure(name: str) -> float:
        (line,) = (line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{"))
        return float(line.rpartition(" ")[2])

    assert figure("spiritsafe_detector_canary_age_seconds") == 0
    with database.write() as connection:
        canaries.ensure(connection, "little-bird", "test")
        canaries.note_found(connection, "little-bird", 117, 31.5)
    assert figure("spiritsafe_detector_canaries_missed") == 0
    with database.write() as connection:
        canaries.note_missed(connection, "little-bird", "there was no alert")
    assert figure("spiritsafe_detector_canaries_missed") == 1
    assert (figure("spiritsafe_detector_canary_requests"), figure("spiritsafe_detector_canary_seconds")) == (117, 31.5)
    assert 0 < figure("spiritsafe_detector_canary_age_seconds") < 3600
    assert "little-bird" not in client.get("/metrics").text
