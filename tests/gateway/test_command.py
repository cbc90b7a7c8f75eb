"""What every command shares: options, output, and errors with their exit status."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.command import Context, Duration, standard_options
from gateway.ledger.errors import NotFound
from gateway.settings import DEFAULT_TEXT


@click.command()
@click.argument("wish")
@standard_options
def probe(context: Context, wish: str) -> None:
    """Stand for any command."""
    if wish == "missing":
        raise NotFound("no such thing: look elsewhere")
    context.say("for people")
    context.emit([{"name": "a", "time": datetime(2026, 1, 2, tzinfo=UTC)}, {"name": "b", "time": None}])


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A settings file with the defaults."""
    (tmp_path / "spiritsafe.toml").write_text(DEFAULT_TEXT)
    return str(tmp_path / "spiritsafe.toml")


def test_json_is_one_object_per_line_and_words_go_to_stderr(config: str) -> None:
    """With `--json`, stdout is data and nothing else; what is meant for people is on stderr."""
    result = CliRunner().invoke(probe, ["rows", "--json", "--config", config])
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"name": "a", "time": "2026-01-02T00:00:00.000Z"},
        {"name": "b", "time": None},
    ]
    assert result.stderr == "for people\n"


def test_a_table_for_people(config: str) -> None:
    """Without `--json` the rows are a table with a heading."""
    result = CliRunner().invoke(probe, ["rows", "--config", config])
    assert result.stdout == "name  time\na     2026-01-02T00:00:00.000Z\nb     –\n"


def test_known_errors_are_one_line_and_an_exit_status(config: str, tmp_path: Path) -> None:
    """Ledger errors end with status 1 and unusable settings with 2, each in one line with its remedy."""
    result = CliRunner().invoke(probe, ["missing", "--config", config])
    assert (result.exit_code, result.stderr) == (1, "error: no such thing: look elsewhere\n")
    (tmp_path / "bad.toml").write_text("prot = 1\n")
    result = CliRunner().invoke(probe, ["rows", "--config", str(tmp_path / "bad.toml")])
    assert result.exit_code == 2
    assert "line 1" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", timedelta(seconds=30)), ("12h", timedelta(hours=12)), ("7d", timedelta(days=7))]
    + [(text, None) for text in ("soon", "0d", "-1d", "7", "1000000d", "")],
)
def test_durations_are_a_number_and_a_unit(text: str, expected: timedelta | None) -> None:
    """`7d` is seven days; anything else, no time and more than any date holds fail with an example."""
    if expected is None:
        with pytest.raises(click.BadParameter, match="for example"):
            Duration().convert(text, None, None)
    else:
        assert Duration().convert(text, None, None) == expected
