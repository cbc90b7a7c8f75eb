"""A data folder of its own for each test, and a control plane: a real SQLite file in it, or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.database import Database
from gateway.settings import Settings
from tests.control_plane import fresh


@pytest.fixture
def settings(tmp_path: Path, control_url: str) -> Settings:
    """Settings whose data folder and control plane are the test's own."""
    return Settings(data_dir=tmp_path / "data", database=control_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A control plane of the test's own."""
    database = fresh(settings.database_url)
    yield database
    database.close()
