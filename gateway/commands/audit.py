"""`spiritsafe audit …`: what was done, by whom and why, and whether that log is whole."""

from __future__ import annotations

import sys

import click

from gateway.command import Context, standard_options
from gateway.ledger import audit as ledger

COLUMNS = ("number", "time", "actor", "action", "subject", "before", "after", "reason", "detail")


@click.group()
def audit() -> None:
    """List and verify what was done, by whom and why."""


@audit.command(name="list")
@click.option("--subject", help="Rows on this account, alert, snapshot, student or backend only.")
@click.option("--actor", help="Rows of this operator, or cli:USER, only.")
@click.option("--action", help="Rows of this action only, such as key.revoke.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@standard_options
def list_rows(context: Context, subject: str | None, actor: str | None, action: str | None, limit: int) -> None:
    """List what was done, the newest first."""
    with context.database.read() as connection:
        rows = ledger.recent(connection, limit, subject, actor, action)
    context.emit([vars(row) for row in rows], COLUMNS)


@audit.command()
@click.option("--expect", metavar="HASH", help="The hash that an earlier verification printed, kept elsewhere.")
@standard_options
def verify(context: Context, expect: str | None) -> None:
    """Hash the log anew; exit with 1 and say where when a row was edited, removed, added or moved."""
    with context.database.read() as connection:
        verdict = ledger.verify(connection, expect)
    context.emit_one(
        {"rows": verdict.rows, "number": verdict.number, "hash": verdict.hash}
        | {"faults": [vars(fault) for fault in verdict.faults]}
    )
    for fault in verdict.faults:
        context.say(fault.text)
    if verdict.faults:
        sys.exit(1)
    context.say("The log is whole. Keep its hash where nobody who can write to this database can: --expect takes it.")
