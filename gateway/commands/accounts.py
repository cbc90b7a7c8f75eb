"""`spiritsafe accounts …`: who may call the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.command import Context, standard_options
from gateway.ledger import accounts as ledger
from gateway.ledger import consents, enforcement
from gateway.ledger.importing import import_accounts

COLUMNS = ("name", "tier", "operator", "consent", "enforcement", "created")


@click.group()
def accounts() -> None:
    """Create, list and import accounts."""


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
        found = ledger.every(connection)
    context.emit([_row(account, granted.get(account.name), measures.get(account.name)) for account in found], COLUMNS)


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


def _row(
    account: ledger.Account, consent: consents.Consent | None, measure: enforcement.Enforcement | None
) -> dict[str, Any]:
    return {
        "name": account.name,
        "created": account.created,
        "tier": account.tier,
        "operator": account.operator,
        "consent": None if consent is None else consent.granted,
        "enforcement": None if measure is None else measure.action,
    }
