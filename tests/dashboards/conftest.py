"""A console on a real SQLite file and a real lake, and a person with a browser's manners."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dashboards.console.app import mount
from gateway.ledger.database import Database, open_database
from gateway.settings import Settings
from tests.dashboards import seed


@dataclass(frozen=True)
class Person:
    """Somebody at the console: a client that keeps cookies and sends the forms it was given."""

    client: TestClient

    def get(self, path: str) -> str:
        """Open a page that must be there and return its text."""
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.text

    def send(self, path: str, page: str = "/", **form: str) -> Any:
        """Send a form with the token of a page and follow where it leads."""
        return self.client.post(path, data={"csrf": csrf_of(self.get(page)), **form})


def csrf_of(page: str) -> str:
    """Return the token that a page's forms carry."""
    match = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert match is not None, "the page has no form with a token"
    return match.group(1)


@pytest.fixture()
def settings(tmp_path: Path) -> Settings:
    """Return settings whose every file lies in the test's folder."""
    return seed.settings_in(tmp_path)


@pytest.fixture()
def database(settings: Settings) -> Iterator[Database]:
    """Open a control plane with two operators, mara and joel."""
    opened = open_database(settings.database_url)
    seed.people(opened)
    yield opened
    opened.close()


@pytest.fixture()
def app(settings: Settings, database: Database) -> FastAPI:
    """Build an operator process with nothing but the console."""
    application = FastAPI(openapi_url=None)
    mount(application, settings, database)
    return application


@pytest.fixture()
def stranger(app: FastAPI) -> TestClient:
    """Return a client that nobody has logged in with."""
    return TestClient(app, base_url="http://127.0.0.1:8081", headers={"accept": "text/html"})


def log_in(app: FastAPI, name: str) -> Person:
    """Log an operator in."""
    client = TestClient(app, base_url="http://127.0.0.1:8081", headers={"accept": "text/html"})
    response = client.post("/login", data={"name": name, "password": seed.PASSWORD})
    assert response.status_code == 200
    assert response.url.path == "/"
    return Person(client)


@pytest.fixture()
def mara(app: FastAPI) -> Person:
    """Return mara, logged in."""
    return log_in(app, "mara")


@pytest.fixture()
def joel(app: FastAPI) -> Person:
    """Return joel, logged in."""
    return log_in(app, "joel")


@pytest.fixture()
def open_alerts(settings: Settings, database: Database) -> dict[str, str]:
    """Fill the house and return its open alerts' ids by account."""
    return seed.house(settings, database)
