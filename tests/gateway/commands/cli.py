"""Runs `spiritsafe` in this process, on a settings file of the test's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.settings import Settings, load_settings


@dataclass(frozen=True)
class Cli:
    """The command line with `--config FILE`; `settings` are those of the file."""

    file: Path

    @property
    def settings(self) -> Settings:
        """The settings that the commands run with."""
        return load_settings(self.file, {})

    def run(self, *arguments: str, exit_code: int = 0, stdin: str | None = None) -> Result:
        """Run a command and check how it ended."""
        result = CliRunner().invoke(main, [*arguments, "--config", str(self.file)], input=stdin)
        assert result.exit_code == exit_code, result.output + str(result.exception)
        return result

    def rows(self, *arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
        """Run a command with `--json` and return what it printed on stdout."""
        return [json.loads(line) for line in self.run(*arguments, "--json", stdin=stdin).stdout.splitlines()]
