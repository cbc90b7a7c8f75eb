"""`spiritsafe enforce`: a person's measure against an account."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import click

from gateway.command import Context, Duration, standard_options
from gateway.ledger import enforcement as measures


@click.command()
@click.argument("account")
@click.option("--action", type=click.Choice(["divert", "suspend", "clear"]), required=True, help="What to do.")
@click.option("--for", "duration", type=Duration(), default="7d", show_default=True, help="How long it holds.")
@click.option("--note", required=True, help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def enforce(
    context: Context,
    account: str,
    action: Literal["divert", "suspend", "clear"],
    duration: timedelta,
    note: str,
    operator: str | None,
) -> None:
    """Divert ACCOUNT's `auto` traffic to the student, suspend it, or clear what is in force."""
    actor = operator or context.actor
    with context.database.write() as connection:
        if action == "clear":
            ended = measures.clear(connection, account, actor, note)
            context.emit_one({"account": account, "action": "clear", "ended": ended})
            return
        row = measures.impose(connection, account, action, actor, note, duration)
    context.emit_one({"account": row.account, "action": row.action, "until": row.until, "operator": row.operator})
