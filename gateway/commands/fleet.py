"""`spiritsafe fleet …`: the backends of all models, and taking one out for a while."""

from __future__ import annotations

import dataclasses

import click

from gateway.command import Context, standard_options
from gateway.fleet import listing
from gateway.ledger import drains, registry
from gateway.settings import root_of

COLUMNS = ("model", "url", "tier", "weight", "state", "drained", "in_flight", "running", "waiting", "kv_cache")


@click.group()
def fleet() -> None:
    """List and drain the models' servers."""


@fleet.command(name="list")
@standard_options
def list_backends(context: Context) -> None:
    """List every backend with its work, as the workers told a second ago."""
    with context.database.read() as connection:
        found = listing.rows(
            context.settings, registry.in_state(connection, *registry.SERVED), drains.every(connection)
        )
    context.emit([dataclasses.asdict(row) for row in found], COLUMNS)


@fleet.command()
@click.argument("url")
@click.option("--undo", is_flag=True, help="Put it back.")
@click.option("--note", default="", help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def drain(context: Context, url: str, undo: bool, note: str, operator: str | None) -> None:
    """Send no new requests to the backend URL; those it has finish. It binds every worker within a second."""
    actor, root = operator or context.actor, root_of(url)
    with context.database.write() as connection:
        if undo:
            drains.end(connection, root, actor, note)
        else:
            listing.check_known(root, context.settings, registry.in_state(connection, *registry.SERVED))
            drains.begin(connection, root, actor, note)
    context.emit_one({"url": root, "drained": not undo, "operator": actor})
