"""`spiritsafe erase`: everything of an account, from everything, with a receipt."""

from __future__ import annotations

import click

from gateway import records
from gateway.command import Context, standard_options
from gateway.ledger import erasing
from gateway.ledger.erasing import Surroundings
from gateway.ledger.errors import Forbidden
from gateway.ledger.ingester import Ingester
from gateway.settings import Settings

FOLLOWED_S = 2.0  # a revoked key is refused everywhere within a second


@click.command()
@click.argument("name")
@click.option("--wait", type=click.FloatRange(min=0), default=None, help="Seconds to wait for its last requests.")
@standard_options
def erase(context: Context, name: str, wait: float | None) -> None:
    """Remove everything of the account NAME, from everything, and print the receipt.

    Its keys end and its rows are hidden at once. While a gateway runs, it waits until no request of the account can be
    under way any more. Whatever stops it, the same command goes on where it was.
    """
    patience_s = context.settings.gateway.total_timeout_s if wait is None else wait
    around = surroundings(context, quiet_s(context.settings), patience_s)
    context.emit_one(erasing.erase(around, name, context.actor).receipt or {})


def quiet_s(settings: Settings) -> float:
    """Return how many seconds after its key was accepted a request may still begin."""
    return FOLLOWED_S + settings.gateway.body_timeout_s + settings.limits.queue_wait_s


def surroundings(context: Context, quiet_s: float, patience_s: float = 0.0) -> Surroundings:
    """Return where a withdrawal or an erasure works."""
    said: set[str] = set()

    def say_once(text: str) -> None:
        if text not in said:
            context.say(text)
        said.add(text)

    return Surroundings(context.settings, context.database, lambda: _bring_in(context), quiet_s, patience_s, say_once)


def _bring_in(context: Context) -> None:
    """Ingest what the spool holds, where no ingester runs that does so anyway."""
    try:
        ingester = Ingester(context.settings, records.complete)
    except Forbidden:
        return
    try:
        ingester.run_once()
    finally:
        ingester.close()
