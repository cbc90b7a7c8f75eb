"""`spiritsafe backup` and `restore`: what can't be made again, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.command import Context, standard_options
from gateway.ledger import backup as ledger


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@standard_options
def backup(context: Context, folder: Path) -> None:
    """Copy the control plane and the secret into a new FOLDER; the house may run meanwhile."""
    made = ledger.back_up(context.database, context.settings.data_dir, folder)
    context.emit([{"file": str(path), "bytes": path.stat().st_size} for path in made])
    context.say("Keep it apart and private. docs/operating.md says what else to copy.")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the control plane there is; its audit log goes on.")
@standard_options
def restore(context: Context, folder: Path, replace: bool) -> None:
    """Put the backup in FOLDER in the place of the control plane, and its secret where there is none.

    The house may run meanwhile. A backup of one database can be restored into another: SQLite or PostgreSQL.
    """
    done = ledger.restore(context.database, context.settings.data_dir, folder, context.actor, replace=replace)
    context.emit_one({"rows": done.rows, "audit_log": "kept" if done.log_kept else "restored"})
    for fault in done.faults:
        context.say(f"the backup's audit log: {fault.text}")
