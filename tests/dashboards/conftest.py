"""A console on a real SQLite file and a real lake, and a person with a browser's manners."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Mount

from dashboards.console.app import mount
from dashboards.console.headers import SecurityHeaders
from dashboards.console.sessions import COOKIE
from dashboards.console.visit import Console
from gateway.ledger import audit, operators
from gateway.ledger.database import Database
from gateway.settings import Settings
from tests.control_plane import fresh
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

    def token(self) -> str:
        """Return this session's form token."""
        return csrf_of(self.get("/"))

    def send(self, path: str, **form: str) -> Any:
        """Send a form with this session's token and follow where it leads."""
        return self.client.post(path, data={"csrf": self.token(), **form})


def csrf_of(page: str) -> str:
    """Return the token that a page's forms carry."""
    match = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert match is not None, "the page has no form with a token"
    return match.group(1)


@dataclass(frozen=True)
class Furnished:
    """A house filled once for all tests: its folder, and its open alerts' ids by account."""

    folder: Path
    open_alerts: dict[str, str]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    """Fill a house; every test works on a copy of it."""
    folder = tmp_path_factory.mktemp("furnished") / "data"
    settings = seed.settings_in(folder)
    database = fresh(settings.database_url)
    seed.people(database)
    found = seed.house(settings, database)
    database.close()
    return Furnished(folder, found)


@pytest.fixture
def open_alerts(furnished: Furnished) -> dict[str, str]:
    """Return the open alerts' ids by account."""
    return furnished.open_alerts


@pytest.fixture
def settings(furnished: Furnished, tmp_path: Path) -> Settings:
    """Return the settings of a house of the test's own."""
    return seed.settings_in(Path(shutil.copytree(furnished.folder, tmp_path / "data")))


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Open the house's control plane; mara and joel are its operators."""
    opened = Database(settings.database_url)
    yield opened
    opened.close()


@pytest.fixture
def app(settings: Settings, database: Database) -> FastAPI:
    """Build an operator process with nothing but the console."""
    application = FastAPI(openapi_url=None)
    mount(application, settings, database)
    return application


@pytest.fixture
def empty_app(tmp_path: Path) -> Iterator[FastAPI]:
    """Build the console of a house on its first day: two operators and nothing else."""
    settings = seed.settings_in(tmp_path / "empty")
    opened = fresh(settings.database_url)
    seed.people(opened)
    application = FastAPI(openapi_url=None)
    mount(application, settings, opened)
    yield application
    opened.close()


@pytest.fixture
def audit_rows(database: Database) -> Callable[[], int]:
    """Return a function that counts the audit log's rows."""

    def count() -> int:
        with database.read() as connection:
            return len(audit.recent(connection, limit=10_000))

    return count


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    """Return a client that nobody has logged in with."""
    return browser_of(app)


def browser_of(app: FastAPI) -> TestClient:
    """Return a client that asks for pages, as a browser does."""
    return TestClient(app, base_url="http://127.0.0.1:8081", headers={"accept": "text/html"})


def log_in(app: FastAPI, name: str) -> Person:
    """Hand an operator the cookie of a log-in, without the time that a password's hash takes (see test_login.py)."""
    console = console_in(app)
    with console.database.read() as connection:
        operator = next(operator for operator in operators.every(connection) if operator.name == name)
    client = browser_of(app)
    client.cookies.set(COOKIE, console.sessions.open(operator))
    return Person(client)


def console_in(app: FastAPI) -> Console:
    """Return what the mounted console's pages read from."""
    mounted = next(route for route in app.routes if isinstance(route, Mount) and route.name == "console")
    assert isinstance(mounted.app, SecurityHeaders)
    assert isinstance(mounted.app.app, FastAPI)
    console: Console = mounted.app.app.state.console
    return console


@pytest.fixture
def mara(app: FastAPI) -> Person:
    """Return mara, logged in."""
    return log_in(app, "mara")


@pytest.fixture
def joel(app: FastAPI) -> Person:
    """Return joel, logged in."""
    return log_in(app, "joel")
