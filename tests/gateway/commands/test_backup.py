"""`spiritsafe backup` and `restore`, and starts without the secret that the backup is for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import app
from gateway.settings import DEFAULT_TEXT
from tests.gateway.commands.cli import Cli

PORTS = "[gateway]\nport = 0\n[operator]\nport = 0\n"


@pytest.fixture
def locked_out(cli: Cli, tmp_path: Path) -> Path:
    """An installation with a key, whose secret is gone; a backup of it stands beside."""
    cli.file.write_text(cli.file.read_text() + PORTS)
    cli.run("accounts", "create", "app")
    cli.run("keys", "create", "--account", "app")
    cli.run("backup", str(tmp_path / "backup"))
    (cli.settings.data_dir / "secret").unlink()
    return tmp_path / "backup"


def test_it_lists_what_it_copied(cli: Cli, tmp_path: Path) -> None:
    """The files on stdout; what to do with them on stderr."""
    result = cli.run("backup", str(tmp_path / "backup"), "--json")
    assert [Path(json.loads(line)["file"]).name for line in result.stdout.splitlines()] == ["control.sqlite", "secret"]
    assert "docs/operating.md" in result.stderr


def test_a_lost_installation_is_restored(cli: Cli, tmp_path: Path) -> None:
    """On another machine, on SQLite, from the backup alone: accounts, keys and the log are there."""
    cli.run("accounts", "create", "app")
    (key,) = cli.rows("keys", "create", "--account", "app")
    cli.run("backup", str(tmp_path / "backup"))
    (tmp_path / "other").mkdir()
    other = Cli(tmp_path / "other" / "spiritsafe.toml")
    other.file.write_text(DEFAULT_TEXT)
    (done,) = other.rows("restore", str(tmp_path / "backup"))
    assert done["audit_log"] == "restored"
    assert [row["id"] for row in other.rows("keys", "list")] == [key["id"]]
    other.run("keys", "create", "--account", "app")
    assert [row["action"] for row in other.rows("audit", "list")] == [
        "key.create",
        "control.restore",
        "key.create",
        "account.create",
    ]
    other.run("audit", "verify")


def test_what_is_there_is_replaced_only_when_that_is_said(cli: Cli, tmp_path: Path) -> None:
    """Status 1 and the remedy without --replace; with it the accounts are those of the backup, and the log goes on."""
    cli.run("accounts", "create", "app")
    cli.run("backup", str(tmp_path / "backup"))
    cli.run("accounts", "create", "mistake")
    assert "--replace" in cli.run("restore", str(tmp_path / "backup"), exit_code=1).stderr
    assert len(cli.rows("accounts", "list")) == 2
    (done,) = cli.rows("restore", str(tmp_path / "backup"), "--replace")
    assert done == {"rows": 1, "audit_log": "kept"}
    assert [row["name"] for row in cli.rows("accounts", "list")] == ["app"]
    assert [row["subject"] for row in cli.rows("audit", "list")] == ["control plane", "mistake", "app"]


@pytest.mark.parametrize("command", [["gateway"], ["up"], ["operator", "run"], ["keys", "create", "--account", "app"]])
def test_nothing_starts_without_the_secret_that_keys_need(cli: Cli, locked_out: Path, command: list[str]) -> None:
    """Status 1 and the remedy instead of a house that answers every key with 401; a restored secret mends it."""
    error = cli.run(*command, exit_code=1).stderr
    assert "restore it from the backup" in error
    assert not (cli.settings.data_dir / "secret").exists()
    shutil.copy2(locked_out / "secret", cli.settings.data_dir)
    cli.run("keys", "create", "--account", "app")


def test_a_worker_makes_no_secret_of_its_own(cli: Cli, locked_out: Path) -> None:
    """One that its parent starts again ends with the remedy too, and serves no 401."""
    result = CliRunner().invoke(app.main, ["--config", str(cli.file)])
    assert result.exit_code == 1
    assert "restore it from the backup" in result.stderr
    assert not (cli.settings.data_dir / "secret").exists()
