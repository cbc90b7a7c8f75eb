"""`spiritsafe keys …`: what an account shows at the gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.command import Context, standard_options
from gateway.ledger import keys as ledger

COLUMNS = ("id", "account", "hint", "requests_per_minute", "created", "revoked")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--account", required=True, help="Whose key it is.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="More are answered with 429 [no limit].")
@standard_options
def create(context: Context, account: str, requests_per_minute: int | None) -> None:
    """Make a key and show it, once."""
    secret = ledger.installation_secret(context.settings.data_dir)
    with context.database.write() as connection:
        key, text = ledger.create(connection, secret, account, context.actor, requests_per_minute)
    context.emit_one({"id": key.id, "account": account, "key": text, "requests_per_minute": requests_per_minute})
    context.say("Keep the key now: it is stored as a hash and can't be shown again.")


@keys.command(name="list")
@click.option("--account", help="Keys of this account only.")
@standard_options
def list_keys(context: Context, account: str | None) -> None:
    """List keys by their ids and last characters, revoked ones included."""
    with context.database.read() as connection:
        context.emit([_row(key) for key in ledger.every(connection, account)], COLUMNS)


@keys.command()
@click.argument("key_id", metavar="ID")
@standard_options
def revoke(context: Context, key_id: str) -> None:
    """End the key of that ID; every worker refuses it within a second."""
    with context.database.write() as connection:
        context.emit_one(_row(ledger.revoke(connection, key_id, context.actor)))


def _row(key: ledger.Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in COLUMNS}
