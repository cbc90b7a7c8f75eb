"""`spiritsafe accounts declare`, `uses`, `revoke-use` and `contract`: what an account said it does, and agreed to."""

from __future__ import annotations

from datetime import datetime

import click

from gateway.command import Context, Moment, standard_options
from gateway.ledger import accounts, declared_usage
from gateway.ledger import declared_uses as ledger
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

COLUMNS = ("id", "account", "use", "cap_per_day", "today", "peak", "over", "until", "granted_by", "state")


@click.command()
@click.argument("account")
@click.option("--use", required=True, help="What it does, in words.")
@click.option("--cap-per-day", type=click.IntRange(min=1), required=True, help="Requests a day at most.")
@click.option("--until", type=Moment(), required=True, help="When it ends, such as 2026-12-31T00:00:00Z.")
@click.option("--operator", default=None, help="Who grants it [the system user].")
@standard_options
def declare(context: Context, account: str, use: str, cap_per_day: int, until: datetime, operator: str | None) -> None:
    """Grant a use that ACCOUNT declared; this answers a verification that it was asked for."""
    if until <= now():
        raise click.BadParameter("it has passed already: name a moment to come", param_hint="--until")
    with context.database.write() as connection:
        row = ledger.declare(connection, account, use, operator or context.actor, cap_per_day, until)
    context.emit_one(vars(row))


@click.command()
@click.argument("account", required=False)
@standard_options
def uses(context: Context, account: str | None) -> None:
    """List declared uses (of ACCOUNT) with what was used: requests today, at most a day, days over the cap."""
    with context.database.read() as connection:
        if account is not None:
            accounts.get(connection, account)
        by_account = ledger.every(connection)
    found = [use for name in sorted(by_account) if account in (name, None) for use in by_account[name]]
    used = declared_usage.of_uses(Lake.of(context.settings), found)
    moment = now()
    rows = [{**vars(use), **vars(used[use.id]), "state": "holds" if use.holds(moment) else "ended"} for use in found]
    context.emit(rows, COLUMNS)


@click.command(name="revoke-use")
@click.argument("use_id", metavar="ID")
@click.option("--note", required=True, help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def revoke_use(context: Context, use_id: str, note: str, operator: str | None) -> None:
    """End the declared use ID now."""
    with context.database.write() as connection:
        row = ledger.revoke(connection, use_id, operator or context.actor, note)
    context.emit_one(vars(row))


@click.command()
@click.argument("account")
@click.option("--divert-named/--no-divert-named", required=True, help="May a student answer where a teacher is named?")
@standard_options
def contract(context: Context, account: str, divert_named: bool) -> None:
    """Note what ACCOUNT's contract allows: whether a diversion reaches the models that it names."""
    with context.database.write() as connection:
        changed = accounts.set_divert_named(connection, account, divert_named, context.actor)
    context.emit_one({"account": changed.name, "divert_named": changed.divert_named})
