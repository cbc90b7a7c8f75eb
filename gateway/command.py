"""What every `spiritsafe` command shares: `--config`, `--json`, the database, and data on stdout.

Sub-commands of other packages are found through the entry point group `spiritsafe.commands`, so that no package
imports another for them; this module is all of the command line that those packages import.
"""

from __future__ import annotations

import functools
import getpass
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from gateway.ledger.database import Database, open_database
from gateway.ledger.errors import LedgerError
from gateway.ledger.identifiers import from_rfc3339, to_rfc3339
from gateway.settings import Settings, SettingsError, load_settings


@dataclass(frozen=True)
class Context:
    """A command's surroundings: the settings, whether JSON is asked for, and the control plane on first use."""

    settings: Settings
    json: bool

    @cached_property
    def database(self) -> Database:
        """The control plane, opened and migrated at first use."""
        return open_database(self.settings.database_url)

    @property
    def actor(self) -> str:
        """Who acts, for the audit log: the system user behind the command line."""
        return f"cli:{getpass.getuser()}"

    def emit(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
        """Print rows to stdout: one JSON object per line with `--json`, else a table of `columns` (default: all)."""
        if self.json:
            for row in rows:
                click.echo(json.dumps(row, default=_plain))
            return
        table = [dict(row) for row in rows]
        names = list(columns) or (list(table[0]) if table else [])
        cells = [names] + [[_cell(row.get(name)) for name in names] for row in table]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        for line in cells:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def emit_one(self, row: Mapping[str, Any]) -> None:
        """Print one object: a JSON document with `--json`, else one `name: value` line per field."""
        if self.json:
            click.echo(json.dumps(row, default=_plain))
            return
        for name, value in row.items():
            click.echo(f"{name}: {_cell(value)}")

    def say(self, text: str) -> None:
        """Tell a person something; to stderr, so that stdout stays data."""
        click.echo(text, err=True)


def standard_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command `--config FILE` and `--json`, and call it with a `Context` as its first argument.

    Known errors end the command with one line on stderr and exit status 1, or 2 for unusable settings.
    """

    @click.option(
        "--config", type=click.Path(path_type=Path), default=None, help="The settings file [spiritsafe.toml]."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print data as JSON on stdout.")
    @functools.wraps(function)
    def command(config: Path | None, as_json: bool, **arguments: Any) -> None:
        try:
            function(Context(load_settings(config), as_json), **arguments)
        except SettingsError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except LedgerError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)

    return command


# The pattern bounds what is read, so that no length of time overflows a date.
DURATION = r"[1-9]\d{0,4}[smhd]"


class Duration(click.ParamType[timedelta]):
    """A length of time such as `30m`, `12h` or `7d`; none is no length."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text; fail with an example when it is something else."""
        if isinstance(value, timedelta):
            return value
        text = str(value)
        if not re.fullmatch(DURATION, text):
            self.fail(f"{value!r} is no length of time: write for example 30m, 12h or 7d", param, ctx)
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[text[-1]]
        return timedelta(**{unit: int(text[:-1])})


class Moment(click.ParamType[datetime]):
    """A moment in RFC 3339, such as `2026-12-01T00:00:00Z`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the text; fail with an example when it is something else."""
        if isinstance(value, datetime):
            return value
        try:
            return from_rfc3339(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no moment: write for example 2026-12-01T00:00:00Z", param, ctx)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return to_rfc3339(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (set, tuple)):
        return list(value)
    return str(value)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return to_rfc3339(value)
    return json.dumps(value, default=_plain) if isinstance(value, (dict, list, tuple)) else str(value)
