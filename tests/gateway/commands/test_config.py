"""`spiritsafe config …`; that it reaches the workers is tested with workers, in `test_app`."""

from __future__ import annotations

from tests.gateway.commands.cli import Cli


def test_the_command_needs_a_gateway_and_a_valid_file(cli: Cli) -> None:
    """Without one it says how to start it; with a bad file it ends with the line and the remedy."""
    assert "spiritsafe up" in cli.run("config", "reload", exit_code=1).stderr
    cli.file.write_text(cli.file.read_text() + "[gateway]\nworkers = 0\n")
    assert "at least one worker is needed" in cli.run("config", "reload", exit_code=2).stderr
