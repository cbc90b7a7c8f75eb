"""`spiritsafe policies …`: which alerts put a mild step in force before a person has looked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from gateway.command import Context, Duration, standard_options
from gateway.ledger import dry_runs, enforcement
from gateway.ledger import policies as ledger
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

COLUMNS = ("name", "enabled", "action", "severity", "score", "leaked_tokens", "for", "within", "switched_by", "note")
HIT_COLUMNS = ("account", "accounts", "severity", "score", "opened", "decided", "begins", "changed", "stopped_tokens")


@click.group()
def policies() -> None:
    """Write policies down, play them over the past, switch them on and off."""


@policies.command(name="list")
@standard_options
def list_policies(context: Context) -> None:
    """List all policies, and which are switched on."""
    with context.database.read() as connection:
        found = ledger.every(connection)
    context.emit([_row(policy) for policy in found], COLUMNS)


@policies.command()
@click.argument("name")
@click.option("--action", type=click.Choice(enforcement.ACTIONS), required=True, help="watch or strip; no more.")
@click.option("--severity", type=click.Choice(ledger.SEVERITIES), default="high", show_default=True, help="At least.")
@click.option("--score", type=float, help="At least this score, from 0 to 1.")
@click.option("--leaked-tokens", type=click.IntRange(min=1), help="At least so many leaked tokens.")
@click.option("--for", "duration", type=Duration(), default="7d", show_default=True, help="How long the step holds.")
@click.option("--within", type=Duration(), default="6h", show_default=True, help="It begins within so much, by chance.")
@click.option("--at-once", is_flag=True, help="It begins with the alert, in place of --within.")
@click.option("--note", required=True, help="What it is for, in a sentence.")
@click.option("--operator", default=None, help="Whose policy this is [the system user].")
@standard_options
def create(
    context: Context,
    name: str,
    action: enforcement.Action,
    severity: ledger.Severity,
    score: float | None,
    leaked_tokens: int | None,
    duration: timedelta,
    within: timedelta,
    at_once: bool,
    note: str,
    operator: str | None,
) -> None:
    """Write the policy NAME down. It is switched off until `policies enable`."""
    with context.database.write() as connection:
        made = ledger.create(
            connection,
            name,
            action,
            operator or context.actor,
            note,
            severity=severity,
            score=score,
            leaked_tokens=leaked_tokens,
            duration=duration,
            spread=timedelta() if at_once else within,
        )
    context.emit_one(_row(made))


@policies.command()
@click.argument("name")
@click.option("--since", type=Duration(), default="14d", show_default=True, help="How far back.")
@standard_options
def run(context: Context, name: str, since: timedelta) -> None:
    """Play NAME over past alerts and traffic: whom it would have hit. Nothing is done."""
    lake = Lake.of(context.settings)
    with context.database.read() as connection:
        policy = ledger.get(connection, name)
    hits = dry_runs.of_policy(context.database, lake, policy, now() - since)
    context.emit([hit.row() for hit in hits], HIT_COLUMNS)
    innocent = sum(1 for hit in hits if hit.decided == "dismiss")
    changed = sum(hit.estimate.changed for hit in hits)
    accounts = len({account for hit in hits for account in hit.alert.accounts})
    context.say(
        f"{len(hits)} alerts would have met it: {accounts} accounts, {changed} requests changed. "
        f"Of these alerts people dismissed {innocent}."
    )


@policies.command()
@click.argument("name")
@click.option("--note", required=True, help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def enable(context: Context, name: str, note: str, operator: str | None) -> None:
    """Switch NAME on: from now on it acts on alerts that open or rise."""
    _switch(context, name, True, note, operator)


@policies.command()
@click.argument("name")
@click.option("--note", required=True, help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def disable(context: Context, name: str, note: str, operator: str | None) -> None:
    """Switch NAME off; what it has put in force stays until it ends or is undone."""
    _switch(context, name, False, note, operator)


def _switch(context: Context, name: str, on: bool, note: str, operator: str | None) -> None:
    with context.database.write() as connection:
        changed = ledger.switch(connection, name, on, operator or context.actor, note)
    context.emit_one(_row(changed))


def _row(policy: ledger.Policy) -> dict[str, Any]:
    lengths = {"for": str(policy.step.duration), "within": str(policy.step.spread) if policy.spread_s else "at once"}
    return {**vars(policy), **lengths}
