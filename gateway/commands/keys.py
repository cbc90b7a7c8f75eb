"""`spiritsafe keys …`: what an account shows at the gateway."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from gateway.command import Context, Duration, Moment, standard_options
from gateway.ledger import keys as ledger

COLUMNS = ("id", "account", "hint", "requests_per_minute", "scope", "created", "expires", "revoked")
SHOWN = ("requests_per_minute", "scope", "expires")
ONCE = "Keep the key now: it is stored as a hash and can't be shown again."


@click.group()
def keys() -> None:
    """Create, list, rotate, expire and revoke API keys."""


@keys.command()
@click.option("--account", required=True, help="Whose key it is.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), help="More are answered with 429 [no limit].")
@click.option("--model", "models", multiple=True, help="A model in its scope; give several, one each [all].")
@click.option("--endpoint", "endpoints", multiple=True, type=click.Choice(ledger.ENDPOINTS), help="Likewise [all].")
@click.option("--max-output", type=click.IntRange(min=1), help="Most tokens of output it may ask for [no bound].")
@click.option("--extensions", is_flag=True, help="Allow parameters that give away more than OpenAI's API does.")
@click.option("--expires-in", type=Duration(), help="Such as 90d; without it the key holds until it is ended.")
@standard_options
def create(
    context: Context,
    account: str,
    requests_per_minute: int | None,
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    max_output: int | None,
    extensions: bool,
    expires_in: timedelta | None,
) -> None:
    """Make a key and show it, once."""
    scope = ledger.Scope(models or None, endpoints or None, max_output, extensions)
    expires = None if expires_in is None else ledger.end_of(expires_in, None)
    with context.database.write() as connection:
        pepper = ledger.ensure_secret(connection, context.settings.data_dir)
        made = ledger.create(
            connection, pepper, account, context.actor, requests_per_minute, scope=scope, expires=expires
        )
    _show_once(context, *made)


@keys.command(name="list")
@click.option("--account", help="Keys of this account only.")
@standard_options
def list_keys(context: Context, account: str | None) -> None:
    """List keys by their ids and last characters, ended ones included."""
    with context.database.read() as connection:
        context.emit([_row(key) for key in ledger.every(connection, account)], COLUMNS)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--grace", type=Duration(), default="24h", show_default=True, help="How long the old key holds on.")
@standard_options
def rotate(context: Context, key_id: str, grace: timedelta) -> None:
    """Make a successor of the key of that ID and show it, once; the old one is accepted until the grace is over."""
    with context.database.write() as connection:
        pepper = ledger.ensure_secret(connection, context.settings.data_dir)
        made = ledger.rotate(connection, pepper, key_id, context.actor, grace)
        old = ledger.get(connection, key_id)
    _show_once(context, *made)
    context.say(f"The old key holds until {old.expires:%Y-%m-%d %H:%M:%S} UTC; `spiritsafe keys revoke` ends it now.")


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--in", "within", type=Duration(), help="A length of time from now, such as 12h.")
@click.option("--at", type=Moment(), help="A moment, such as 2026-12-01T00:00:00Z.")
@standard_options
def expire(context: Context, key_id: str, within: timedelta | None, at: datetime | None) -> None:
    """Let the key of that ID end later, to the millisecond: --in or --at says when."""
    with context.database.write() as connection:
        key = ledger.expire(connection, key_id, ledger.end_of(within, at), context.actor)
        context.emit_one(_row(key))


@keys.command()
@click.argument("key_id", metavar="ID")
@standard_options
def revoke(context: Context, key_id: str) -> None:
    """End the key of that ID now; every worker refuses it within a second."""
    with context.database.write() as connection:
        context.emit_one(_row(ledger.revoke(connection, key_id, context.actor)))


def _show_once(context: Context, key: ledger.Key, text: str) -> None:
    row = _row(key)
    context.emit_one({"id": key.id, "account": key.account, "key": text} | {name: row[name] for name in SHOWN})
    context.say(ONCE)


def _row(key: ledger.Key) -> dict[str, Any]:
    row = {name: getattr(key, name) for name in COLUMNS}
    return row | {"scope": {name: value for name, value in vars(key.scope).items() if value} or None}
