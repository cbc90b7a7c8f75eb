"""A data folder of its own for each test, and the control plane in it as a real SQLite file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.database import Database, open_database
from gateway.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is the test's own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a control plane in which nothing is yet, migrated once for all tests that want one."""
    file = tmp_path_factory.mktemp("migrated") / "control.sqlite"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def database(settings: Settings, migrated: Path) -> Iterator[Database]:
    """A control plane of the test's own."""
    settings.data_dir.mkdir()
    shutil.copy(migrated, settings.data_dir / "control.sqlite")
    database = open_database(settings.database_url)
    yield database
    database.close()
