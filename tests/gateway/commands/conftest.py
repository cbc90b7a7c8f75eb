"""A settings file, a data folder and a control plane of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import DEFAULT_TEXT
from tests.control_plane import fresh
from tests.gateway.commands.cli import Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control_url: str) -> Cli:
    """`spiritsafe` on default settings in an empty folder, or on PostgreSQL, whatever the environment says."""
    for name in ("SPIRITSAFE_DATA_DIR", "SPIRITSAFE_CONFIG", "SPIRITSAFE_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "spiritsafe.toml"
    on_postgresql = f'database = "{control_url}"\n' if control_url.startswith("postgresql") else ""
    file.write_text(on_postgresql + DEFAULT_TEXT)
    cli = Cli(file)
    fresh(cli.settings.database_url).close()
    return cli
