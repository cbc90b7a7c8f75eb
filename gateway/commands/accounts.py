"""`spiritsafe accounts …`: who may call the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.command import Context, standard_options
from gateway.commands.declared_uses import contract, declare, revoke_use, uses
from gateway.commands.erase import surroundings
from gateway.ledger import accounts as ledger
from gateway.ledger import consents, enforcement, erasing, holds, opt_outs
from gateway.ledger import retention as ledger_retention
from gateway.ledger.importing import import_accounts

COLUMNS = ("name", "tier", "operator", "consent", "enforcement", "hold", "keep_text", "created")


@click.group()
def accounts() -> None:
    """Create, list and import accounts; how long what is kept of them; what they declared and agreed to."""


for command in (declare, uses, revoke_use, contract):
    accounts.add_command(command)


@accounts.command()
@click.argument("name")
@click.option("--consent", is_flag=True, help="The account agrees that its `store: true` requests may train students.")
@click.option("--operator", is_flag=True, help="Its keys may call candidates that nobody has promoted yet.")
@click.option("--tier", default="default", show_default=True, help="The account's tier.")
@standard_options
def create(context: Context, name: str, consent: bool, operator: bool, tier: str) -> None:
    """Create the account NAME."""
    with context.database.write() as connection:
        account = ledger.create(connection, ledger.new(name, tier=tier, operator=operator), context.actor)
        granted = consents.grant(connection, name, context.actor) if consent else None
    context.emit_one(_row(account, granted, None))


@accounts.command(name="list")
@standard_options
def list_accounts(context: Context) -> None:
    """List all accounts by name."""
    with context.database.read() as connection:
        granted, measures = consents.in_force(connection), enforcement.in_force(connection)
        held = holds.in_force(connection)
        found = ledger.every(connection)
    rows = (
        _row(account, granted.get(account.name), measures.get(account.name), held=account.name in held)
        for account in found
    )
    context.emit(rows, COLUMNS)


@accounts.command(name="import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@standard_options
def import_file(context: Context, file: Path) -> None:
    """Import accounts from JSON Lines (- is stdin); bad lines are set aside, known names are left alone."""
    with click.open_file(str(file), encoding="utf-8-sig", errors="surrogateescape") as lines:
        report = import_accounts(lines, context.settings, context.database, context.actor)
    context.emit_one(report.summary())
    for number, reason in report.rejected[:10]:
        context.say(f"line {number}: {reason}")


@accounts.command()
@click.argument("name")
@standard_options
def withdraw(context: Context, name: str) -> None:
    """End NAME's consent to training at once and take its rows out of snapshots; prints the receipt.

    In the lake they stay as long as any account's. `spiritsafe erase` removes everything.
    """
    done = erasing.withdraw(surroundings(context, 0.0), name, context.actor)
    context.emit_one(done.receipt or {})


@accounts.command("opt-out")
@click.argument("name")
@click.option("--user", required=True, help="The end user, as NAME's requests say it in their field `user`.")
@click.option("--lift", is_flag=True, help="Let the end user back in.")
@standard_options
def opt_out(context: Context, name: str, user: str, lift: bool) -> None:
    """Leave one of NAME's end users out of training; snapshots that exist keep their rows until they are made anew."""
    with context.database.write() as connection:
        if lift:
            opt_outs.lift(connection, name, user, context.actor)
        else:
            opt_outs.put(connection, name, user, context.actor)
    context.emit_one({"account": name, "user": user, "opted_out": not lift})


@accounts.command()
@click.argument("name")
@click.option("--note", required=True, help="For which case, in a sentence; an audit will read it.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def hold(context: Context, name: str, note: str, operator: str | None) -> None:
    """Put NAME on legal hold: nothing of it is erased, by request or by age, until it is released."""
    with context.database.write() as connection:
        placed = holds.place(connection, name, operator or context.actor, note)
    context.emit_one({"account": name, "hold": placed.id, "operator": placed.operator})


@accounts.command()
@click.argument("name")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def release(context: Context, name: str, operator: str | None) -> None:
    """Release NAME from its legal hold."""
    with context.database.write() as connection:
        ended = holds.release(connection, name, operator or context.actor)
    context.emit_one({"account": name, "hold": ended.id, "released": True})


@accounts.command()
@click.argument("name")
@click.option("--model", default=ledger_retention.ANY, help="For what this model answered [all].")
@click.option("--text-days", type=click.IntRange(min=0), help="Days after which texts go; 0: no end.")
@click.option("--rows-days", type=click.IntRange(min=0), help="Days after which rows go; 0: no end.")
@click.option("--zero/--no-zero", "zero", default=None, help="Zero retention: no text reaches a disk from now on.")
@standard_options
def retention(
    context: Context, name: str, model: str, text_days: int | None, rows_days: int | None, zero: bool | None
) -> None:
    """Set how long NAME's texts and rows are kept, in place of what was set; without days the general ones hold."""
    with context.database.write() as connection:
        account = ledger.get(connection, name)
        if zero is not None:
            account = ledger.set_keep_text(connection, name, not zero, context.actor)
        if zero is None or text_days is not None or rows_days is not None:
            ledger_retention.assign(connection, name, model, text_days, rows_days, context.actor)
        holding = ledger_retention.policy(connection, context.settings.retention).of(name, model)
    context.emit_one(
        {"account": name, "model": model or None, "text_days": holding.text, "rows_days": holding.rows}
        | {"keep_text": account.keep_text}
    )


def _row(
    account: ledger.Account,
    consent: consents.Consent | None,
    measure: enforcement.Enforcement | None,
    *,
    held: bool = False,
) -> dict[str, Any]:
    return {
        "name": account.name,
        "created": account.created,
        "tier": account.tier,
        "operator": account.operator,
        "consent": None if consent is None else consent.granted,
        "enforcement": None if measure is None else measure.action,
        "hold": held,
        "keep_text": account.keep_text,
        "divert_named": account.divert_named,
    }
