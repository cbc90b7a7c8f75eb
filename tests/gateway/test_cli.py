"""The command line: quick to answer, data on stdout, and decisions under the same rules as everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import BUILT_IN, main
from gateway.ledger import accounts, operators, registry
from gateway.ledger.identifiers import now
from gateway.settings import load_settings
from tests.control_plane import fresh


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings file of an installation with the account org-1 and the candidate tickets@1."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text(
        'data_dir = "data"\n[[models]]\nname = "teacher"\nrole = "teacher"\nbackends = ["http://127.0.0.1:1"]\n'
    )
    database = fresh(load_settings(file, {}).database_url)
    candidate = registry.Student(
        *("tickets", 1, "tickets", "chat.completions", "ab", "f" * 64, "teacher", "students/x", "candidate", now()),
        *(10, 2048, "Apache-2.0", {}),
    )
    with database.write() as connection:
        accounts.create(connection, accounts.new("org-1"), "test")
        registry.add(connection, candidate, "test")
    database.close()
    return file


def run(config: Path, *arguments: str, stdin: str | None = None) -> Result:
    """Run `spiritsafe` in this process."""
    return CliRunner().invoke(main, [*arguments, "--config", str(config)], input=stdin)


def rows(config: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a command with --json and return what it printed, which must be all of its stdout."""
    result = run(config, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_help_imports_no_command() -> None:
    """`spiritsafe --help` lists every command, those of other packages too, without importing what they need."""
    code = (
        "import sys; from gateway.cli import main; main(['--help'], standalone_mode=False); "
        "sys.exit(bool({'fastapi', 'sqlalchemy', 'pyarrow', 'deltalake', 'sklearn'} & sys.modules.keys()))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("up", "detector", "distill", "alerts", *BUILT_IN):
        assert f"\n  {name} " in finished.stdout


def test_every_command_takes_config_and_json() -> None:
    """Each command of the gateway knows --config and --json."""

    def leaves(command: click.Command) -> list[click.Command]:
        children = command.commands.values() if isinstance(command, click.Group) else []
        return [leaf for child in children for leaf in leaves(child)] or [command]

    for name in ("up", "operator", "operators", "models", "enforce"):
        for leaf in leaves(main.commands[name]):
            assert {"--config", "--json"} <= {option for param in leaf.params for option in param.opts}, leaf.name


def test_an_unknown_command_is_an_error() -> None:
    """A misspelt command ends with status 2 and a word about it."""
    result = CliRunner().invoke(main, ["uq"])
    assert result.exit_code == 2
    assert "uq" in result.stderr


def test_an_operator_is_shown_its_secrets_once(config: Path) -> None:
    """The password and the token that are printed work; the list shows neither."""
    made = rows(config, "operators", "create", "ada")[0]
    database = fresh(load_settings(config, {}).database_url)
    with database.read() as connection:
        assert operators.by_password(connection, "ada", made["password"]) is not None
        by_token = operators.by_token(connection, made["token"])
    database.close()
    assert by_token is not None
    assert by_token.name == "ada"
    assert [set(row) for row in rows(config, "operators", "list")] == [{"name", "created"}]
    assert run(config, "operators", "create", "ada").exit_code == 1


def test_a_password_from_stdin(config: Path) -> None:
    """A given password is not printed; a short one is refused."""
    result = run(config, "operators", "create", "bela", "--password-stdin", stdin="correct horse\n")
    assert result.exit_code == 0
    assert "correct horse" not in result.output
    assert "token: op-safe-" in result.stdout
    assert run(config, "operators", "create", "carl", "--password-stdin", stdin="short\n").exit_code == 1


def test_models_are_listed_and_promoted(config: Path) -> None:
    """Base models and students are listed; only a candidate can be promoted, and that can be undone."""
    assert [(row["name"], row["state"]) for row in rows(config, "models", "list")] == [
        ("teacher", "declared"),
        ("tickets@1", "candidate"),
    ]
    promote = ("models", "promote", "tickets@1", "--operator", "ada", "--note", "good")
    assert rows(config, *promote)[0]["state"] == "promoted"
    again = run(config, *promote)
    assert again.exit_code == 1
    assert "only a candidate" in again.stderr
    assert rows(config, "models", "rollback", "tickets@1", "--operator", "ada")[0]["state"] == "candidate"
    assert "only a promoted student" in run(config, "models", "rollback", "tickets@1", "--operator", "ada").stderr


def test_enforcement(config: Path) -> None:
    """An account is suspended for a time with a note and cleared again; a diversion needs a promoted student."""
    enforce = ("enforce", "org-1", "--note", "why")
    assert run(config, *enforce, "--action", "divert").exit_code == 1
    taken = rows(config, *enforce, "--action", "suspend", "--for", "12h", "--operator", "ada")[0]
    assert (taken["account"], taken["action"], taken["operator"]) == ("org-1", "suspend", "ada")
    assert rows(config, *enforce, "--action", "clear")[0]["ended"] == 1
    assert run(config, "enforce", "org-1", "--action", "suspend").exit_code == 2
    assert run(config, *enforce, "--action", "suspend", "--for", "soon").exit_code == 2
