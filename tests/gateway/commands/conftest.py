"""A settings file and a data folder of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import DEFAULT_TEXT
from tests.control_plane import fresh
from tests.gateway.commands.cli import Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`spiritsafe` on default settings in an empty folder, whatever the environment says."""
    for name in ("SPIRITSAFE_DATA_DIR", "SPIRITSAFE_CONFIG", "SPIRITSAFE_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "spiritsafe.toml"
    file.write_text(DEFAULT_TEXT)
    cli = Cli(file)
    fresh(cli.settings.database_url).close()
    return cli
