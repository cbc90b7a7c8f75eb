"""`spiritsafe limits …`: what accounts, keys and models may use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from gateway.command import Context, standard_options
from gateway.ledger import limits as ledger
from gateway.ledger.identifiers import now
from gateway.ledger.spending import Spending
from gateway.limits.leases import StoreUnavailable
from gateway.limits.meters import Kind, meters_of
from gateway.limits.stores import open_store
from gateway.settings import NANO

NONE = "none"
COLUMNS = ("subject", "name", *ledger.QUANTITIES, "lane")


class Quantity(click.ParamType[int | None]):
    """A whole number, or `none` for no limit."""

    name = "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read the text; fail with the remedy when it is something else."""
        if value == NONE:
            return None
        if not str(value).isdecimal():
            self.fail(f"{value!r} is no whole number: write for example 60, or none for no limit", param, ctx)
        return int(value)


class Dollars(click.ParamType[int | None]):
    """Dollars as nano-dollars, or `none` for no limit."""

    name = "USD|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read the text exactly; fail with the remedy when it is no amount of nano-dollars."""
        if value == NONE:
            return None
        try:
            amount = Decimal(str(value)) * NANO
        except InvalidOperation:
            amount = Decimal("nan")
        if not amount.is_finite() or amount != amount.to_integral_value():
            self.fail(f"{value!r} is no sum of money: write for example 12.50, or none for no limit", param, ctx)
        return int(amount)


@click.group()
def limits() -> None:
    """Set, list and clear the limits of accounts, keys and models."""


def _subject_options(function: Any) -> Any:
    for subject, help_text in (
        ("model", "A model's name."),
        ("key", "A key's id; see `keys list`."),
        ("account", "An account's name."),
    ):
        function = click.option(f"--{subject}", help=help_text)(function)
    return function


@limits.command(name="set")
@_subject_options
@click.option("--rpm", type=Quantity(), help="Requests per minute.")
@click.option("--tpm", type=Quantity(), help="Tokens per minute, of prompts and answers.")
@click.option("--parallel", type=Quantity(), help="Requests in flight.")
@click.option("--usd-day", type=Dollars(), help="Dollars in a day (UTC).")
@click.option("--usd-month", type=Dollars(), help="Dollars in a month of the calendar (UTC).")
@click.option("--max-output", type=Quantity(), help="Tokens of one answer.")
@click.option("--weight", type=Quantity(), help="An account's share of a full house, in proportion to others' [1].")
@click.option("--lane", type=click.Choice([*ledger.LANES, NONE]), help="How the subject's requests wait in it.")
@standard_options
def assign(
    context: Context, account: str | None, key: str | None, model: str | None, **given: int | str | None
) -> None:
    """Limit an account, a key or a model; what is not named stays as it is, and `none` ends a limit."""
    subject, name = _chosen(account, key, model)
    command = click.get_current_context()
    change = {
        quantity: None if value == NONE else value
        for quantity, value in given.items()
        if command.get_parameter_source(quantity) is not click.core.ParameterSource.DEFAULT
    }
    if not change:
        raise click.UsageError("nothing to set: name a limit, for example --rpm 60")
    models = {declared.name for declared in context.settings.models}
    with context.database.write() as connection:
        context.emit_one(_row(ledger.assign(connection, subject, name, change, context.actor, models)))


@limits.command(name="list")
@standard_options
def list_limits(context: Context) -> None:
    """List all limits; a key's own requests per minute stand in `keys list`."""
    with context.database.read() as connection:
        context.emit([_row(limit) for limit in ledger.every(connection)], COLUMNS)


@limits.command()
@_subject_options
@standard_options
def clear(context: Context, account: str | None, key: str | None, model: str | None) -> None:
    """End all limits of an account, a key or a model."""
    subject, name = _chosen(account, key, model)
    with context.database.write() as connection:
        ledger.clear(connection, subject, name, context.actor)
    context.emit_one({"subject": subject, "name": name, "cleared": True})


@limits.command()
@standard_options
def rebuild(context: Context) -> None:
    """Count the running budgets anew from the traffic records, where what was counted is lost or in doubt."""
    asyncio.run(_rebuild(context))


async def _rebuild(context: Context) -> None:
    with context.database.read() as connection:
        found = ledger.every(connection)
    moment = now()
    meters = [m for limit in found for m in meters_of(limit, moment.timestamp()) if m.kind is Kind.BUDGET]
    spending = Spending(context.settings, moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    store = open_store(context.settings)
    rows = []
    try:
        for meter in meters:
            before = await store.spent(meter)
            recorded = spending.of(meter.subject, meter.name, datetime.fromtimestamp(meter.begins, UTC))
            await store.rebuild(meter, recorded)
            shown: dict[str, Any] = {
                "subject": meter.subject,
                "name": meter.name,
                "budget": meter.quantity,
                "window": meter.window,
            }
            rows.append(shown | {"before": _dollars(before), "recorded": _dollars(recorded)})
    except StoreUnavailable as error:
        raise click.ClickException(f"{error}: start it, or mend limits.store") from error
    finally:
        await store.close()
    context.emit(rows, ("subject", "name", "budget", "window", "before", "recorded"))


def _chosen(account: str | None, key: str | None, model: str | None) -> tuple[ledger.Subject, str]:
    values = (account, key, model)
    named = [(subject, name) for subject, name in zip(ledger.SUBJECTS, values, strict=True) if name is not None]
    if len(named) != 1:
        raise click.UsageError("name one of --account, --key and --model")
    return named[0]


def _row(limit: ledger.Limit) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": limit.subject, "name": limit.name} | limit.values()
    return row | {name: _dollars(row[name]) for name in ("usd_day", "usd_month")}


def _dollars(nano: int | None) -> str | None:
    return None if nano is None else f"{Decimal(nano) / NANO:f}"
