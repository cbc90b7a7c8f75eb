"""`spiritsafe backup`: what can't be made again, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.command import Context, standard_options
from gateway.ledger.backup import back_up


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@standard_options
def backup(context: Context, folder: Path) -> None:
    """Copy the control plane and the secret into a new FOLDER; the house may run meanwhile."""
    made = back_up(context.database, context.settings.data_dir, folder)
    context.emit([{"file": str(path), "bytes": path.stat().st_size} for path in made])
    context.say("Keep it apart and private. docs/operating.md says how to restore it, and what else to copy.")
