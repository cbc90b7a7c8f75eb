"""`spiritsafe operators …`: the people who decide; `spiritsafe operator run`: the process they use."""

from __future__ import annotations

import secrets
import sys

import click

from gateway import logs
from gateway.command import Context, standard_options
from gateway.ledger import operators as people
from gateway.ledger.errors import InvalidValue

MINIMUM_PASSWORD = 8


@click.group()
def operators() -> None:
    """Create and list the people who decide."""


@operators.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the console password from stdin instead of making one.")
@standard_options
def create(context: Context, name: str, password_stdin: bool) -> None:
    """Make an operator; the token for the admin API, and a password made here, are shown once."""
    password = sys.stdin.readline().rstrip("\n") if password_stdin else secrets.token_urlsafe(15)
    if len(password) < MINIMUM_PASSWORD:
        raise InvalidValue(f"the password on stdin is shorter than {MINIMUM_PASSWORD} characters: give a longer one")
    with context.database.write() as connection:
        operator, token = people.create(connection, name, password, context.actor)
    shown = {"name": operator.name, "token": token}
    context.emit_one(shown if password_stdin else shown | {"password": password})
    context.say("Keep these now: they are stored as hashes and can't be shown again.")


@operators.command(name="list")
@standard_options
def list_operators(context: Context) -> None:
    """List the operators by name."""
    with context.database.read() as connection:
        rows = people.every(connection)
    context.emit([{"name": row.name, "created": row.created} for row in rows])


@click.group()
def operator() -> None:
    """The operator process: console, admin API, metrics."""


@operator.command()
@standard_options
def run(context: Context) -> None:
    """Serve the console, the admin API and /metrics on the operator port until Ctrl-C."""
    from gateway import operator as process  # noqa: PLC0415 - brings the web framework, which `operators` does not need

    logs.configure("operator")
    process.run(context.settings)
