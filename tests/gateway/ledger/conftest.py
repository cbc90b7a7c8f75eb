"""A data folder of its own for each test, and the control plane in it as a real SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.database import Database
from gateway.settings import Settings
from tests.control_plane import fresh


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose data folder is the test's own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A control plane of the test's own."""
    database = fresh(settings.database_url)
    yield database
    database.close()
