"""`spiritsafe enforce`: a person's steps against accounts, what they would have done, and taking them back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import click

from gateway.command import Context, Duration, standard_options
from gateway.ledger import alerts, dry_runs
from gateway.ledger import enforcement as measures
from gateway.ledger.lake import Lake

Choice = Literal["watch", "strip", "divert", "cap", "verify", "suspend", "clear"]
COLUMNS = ("account", "action", "begins", "until", "operator", "decision")


@click.command()
@click.argument("account", required=False)
@click.option("--accounts", "listed", metavar="A,B,…", help="Several accounts, as one decision.")
@click.option("--set", "linked", metavar="SET", help="A linked set, by its id or an alert's, as one decision.")
@click.option("--action", type=click.Choice([*measures.ACTIONS, "clear"]), help="The step, the mildest first.")
@click.option("--tokens-per-day", type=click.IntRange(min=1), help="For cap: the teacher's output tokens a day.")
@click.option("--for", "duration", type=Duration(), default="7d", show_default=True, help="How long it holds.")
@click.option(
    "--after", type=Duration(), help="Begin so much later; what is in force goes on until then [verify: 24h]."
)
@click.option("--spread", type=Duration(), help="Begin at a moment within so much, which nobody can foretell.")
@click.option("--undo", "decision", metavar="DECISION", help="Take a decision back, all of it.")
@click.option("--list", "show", is_flag=True, help="List what is in force.")
@click.option("--dry-run", is_flag=True, help="Say what the step would have done last week, and do nothing.")
@click.option("--note", help="Why, in a sentence; it is what an audit will read.")
@click.option("--operator", default=None, help="Whose decision this is [the system user].")
@standard_options
def enforce(
    context: Context,
    account: str | None,
    listed: str | None,
    linked: str | None,
    action: Choice | None,
    tokens_per_day: int | None,
    duration: timedelta,
    after: timedelta | None,
    spread: timedelta | None,
    decision: str | None,
    show: bool,
    dry_run: bool,
    note: str | None,
    operator: str | None,
) -> None:
    """Take a step against ACCOUNT (or --accounts, or a --set), clear what is in force, or undo a decision."""
    actor = operator or context.actor
    if show:
        _list(context)
    elif decision is not None:
        _undo(context, decision, actor, _noted(note))
    elif action is None:
        raise click.UsageError("say what to do: --action, --undo or --list")
    elif action == "clear":
        _clear(context, _named(context, account, listed, linked), actor, _noted(note))
    else:
        names = _named(context, account, listed, linked)
        step = measures.Step(action, duration, tokens_per_day, after, spread or timedelta())
        if dry_run:
            _dry_run(context, names, step)
        else:
            _take(context, names, step, actor, _noted(note), linked)


def _take(
    context: Context, names: Sequence[str], step: measures.Step, actor: str, note: str, linked: str | None
) -> None:
    with context.database.write() as connection:
        alert = None if linked is None else alerts.of_set(connection, linked).id
        rows = measures.take(connection, names, step, actor, note, alert)
    if len(rows) == 1:
        context.emit_one(_row(rows[0]))
    else:
        context.emit([_row(row) for row in rows], COLUMNS)
    context.say(f"It is taken back by: spiritsafe enforce --undo {rows[0].decision_id} --note …")


def _clear(context: Context, names: Sequence[str], actor: str, note: str) -> None:
    with context.database.write() as connection:
        ended = {name: measures.clear(connection, name, actor, note) for name in names}
    rows = [{"account": name, "action": "clear", "ended": count} for name, count in ended.items()]
    if len(rows) == 1:
        context.emit_one(rows[0])
    else:
        context.emit(rows)


def _undo(context: Context, decision: str, actor: str, note: str) -> None:
    with context.database.write() as connection:
        undone = measures.undo(connection, decision, actor, note)
    again = {row.account: row.action for row in undone.restored}
    context.emit(
        [{"account": row.account, "ended": row.action, "restored": again.get(row.account)} for row in undone.ended]
    )


def _list(context: Context) -> None:
    with context.database.read() as connection:
        rows = sorted(measures.in_force(connection).values(), key=lambda row: (row.created, row.account))
    context.emit([_row(row) for row in rows], COLUMNS)


def _dry_run(context: Context, names: Sequence[str], step: measures.Step) -> None:
    lake = Lake.of(context.settings)
    found = dry_runs.of_step(context.database, lake, names, step)
    if context.json:
        context.emit_one(found.figures())
        return
    click.echo(found.total.sentence())
    if len(names) > 1:
        wanted = ("requests", "teacher_tokens", "stopped_tokens", "refused", "changed")
        rows = [{"account": name} | found.by_account[name].figures() for name in names]
        context.emit(rows, ("account", *wanted))


def _named(context: Context, account: str | None, listed: str | None, linked: str | None) -> list[str]:
    given = [value for value in (account, listed, linked) if value is not None]
    if len(given) != 1:
        raise click.UsageError("name one account, or several with --accounts, or a linked set with --set")
    if linked is not None:
        with context.database.read() as connection:
            return alerts.accounts_of(connection, alerts.of_set(connection, linked))
    return [name.strip() for name in given[0].split(",") if name.strip()] if listed is not None else given


def _noted(note: str | None) -> str:
    if note is None or not note.strip():
        raise click.UsageError("say why in a sentence with --note: it is what an audit will read")
    return note


def _row(row: measures.Enforcement) -> dict[str, Any]:
    return {
        "account": row.account,
        "action": row.action,
        "begins": row.begins or row.created,
        "until": row.until,
        "tokens_per_day": row.tokens_per_day,
        "operator": row.operator,
        "decision": row.decision_id,
    }
