"""`spiritsafe detector` and `spiritsafe alerts`."""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from detector import logs, oversight
from gateway.command import Context, Duration, standard_options
from gateway.ledger import alerts as ledger_alerts
from gateway.ledger import declared_uses, enforcement, operators
from gateway.ledger.errors import NotFound

NICENESS = 5  # vLLM shares the cores and has people waiting
LIST_COLUMNS = (
    "id",
    "account",
    "severity",
    "score",
    "state",
    "opened",
    "requests_before_alert",
    "teacher_tokens",
    "reason",
)
SCORE_COLUMNS = ("account", "severity", "score", "abstained", "first_alert_at", "requests_before_alert", "reason")


@click.group()
def detector() -> None:
    """Watch the traffic for accounts that collect answers in bulk."""


@detector.command("run")
@standard_options
def run(context: Context) -> None:
    """Follow the lake and raise alerts until stopped."""
    # pandas and scikit-learn take a second to load; only these commands need them.
    from detector.service import Service  # noqa: PLC0415

    logs.configure()
    os.nice(NICENESS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Service(context.settings, context.database).run(stop)


@detector.command("score")
@click.option("--daily", is_flag=True, help="One object per account and day.")
@standard_options
def score(context: Context, daily: bool) -> None:
    """Replay the lake in event time, as the service would have seen it, and print what it says of every account."""
    from detector import columns as lake_columns  # noqa: PLC0415 — see `run`
    from detector.links.linker import AccountLinks, registered  # noqa: PLC0415
    from detector.replay import replay  # noqa: PLC0415
    from gateway.ledger.lake import Lake  # noqa: PLC0415

    table = Lake.of(context.settings).read(columns=lake_columns.COLUMNS)
    with context.database.read() as connection:
        uses = declared_uses.every(connection)
    linker = AccountLinks(functools.partial(registered, context.database))
    rows = replay(lake_columns.read(table), context.settings.detector.minimum_requests, uses, daily, linker=linker)
    if context.json:
        context.emit(rows)
        return
    columns = ("day", *SCORE_COLUMNS) if daily else SCORE_COLUMNS
    context.emit([{**row, "reason": _first_reason(row["reasons"])} for row in rows], columns)


@detector.command("thresholds")
@click.option(
    "--catch", metavar="ACCOUNT", help="Which others would a threshold catch that is low enough for this one?"
)
@standard_options
def thresholds(context: Context, catch: str | None) -> None:
    """Print what a threshold on requests, and one on tokens, would flag in each account's last day."""
    from detector import columns as lake_columns  # noqa: PLC0415 — see `run`
    from detector.baselines import compare  # noqa: PLC0415
    from gateway.ledger.lake import Lake  # noqa: PLC0415

    table = Lake.of(context.settings).read(columns=lake_columns.COLUMNS)
    context.emit(compare(lake_columns.read(table), catch))


@detector.command("evaluate")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="SPIRITSAFE_CORPORA",
    help="Folder of corpora and traces [own prompts and rates].",
)
@click.option("--quick", is_flag=True, help="A tenth of the accounts and one campaign a cell: minutes, not hours.")
@click.option("--seed", default=0, show_default=True, help="The same seed makes the same world.")
@click.option(
    "--additions",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of Python files with further corpora, profiles and strategies.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/evaluation"),
    show_default=True,
    help="Where report.html and the simulated lake go; the lake is removed at the end.",
)
@standard_options
def evaluate(context: Context, data: Path | None, quick: bool, seed: int, additions: Path | None, out: Path) -> None:
    """Measure the detector on a simulated month, beside the baselines; exit with 1 where the simulator is no test."""
    from detector.evaluation import report, results  # noqa: PLC0415 — see `run`
    from detector.evaluation.planning import FULL, QUICK  # noqa: PLC0415

    setup = results.Setup(data, QUICK if quick else FULL, seed, additions)
    if data is None:
        context.say("No corpora are given (--data, or SPIRITSAFE_CORPORA): prompts and rates are of our own making.")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        found = results.evaluate(setup, Path(folder), Paced(context.say))
    written = report.write(found, out)
    if context.json:
        context.emit_one(report.document(found))
    else:
        click.echo(report.text(found))
    context.say(f"The report is {written}.")
    if any(finding.gives_away for finding in found.audit):
        context.say("The simulator gives the label away (see its probes): the figures above say too much.")
        sys.exit(1)


@detector.command("simulate")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="SPIRITSAFE_CORPORA",
    help="Folder of corpora and traces [own prompts and rates].",
)
@click.option("--quick", is_flag=True, help="A tenth of the accounts and one campaign a cell.")
@click.option("--seed", default=0, show_default=True, help="The same seed makes the same month.")
@click.option(
    "--additions",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of Python files with further corpora, profiles and strategies.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the files go.")
@standard_options
def simulate(context: Context, data: Path | None, quick: bool, seed: int, additions: Path | None, out: Path) -> None:
    """Write a simulated month as files: accounts.jsonl, traffic.jsonl, and the truth apart, in truth.jsonl."""
    from detector.evaluation import exporting, results  # noqa: PLC0415 — see `run`
    from detector.evaluation.planning import FULL, QUICK  # noqa: PLC0415

    setup = results.Setup(data, QUICK if quick else FULL, seed, additions)
    world = results.make_world(setup)
    plans = world.plan(setup.size, seed)
    requests = exporting.write_month(plans, world, out, Paced(context.say))
    context.emit_one({"folder": str(out), "accounts": len(plans), "requests": requests})


@detector.command("fit")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="SPIRITSAFE_CORPORA",
    help="Folder of corpora and traces [own prompts and rates].",
)
@click.option("--seed", "seeds", multiple=True, type=int, help="A month's seed; may be repeated [the shipped model's].")
@click.option(
    "--months",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/months"),
    show_default=True,
    help="Where months are kept, so that another recipe needs no second simulation.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the model goes.")
@standard_options
def fit(context: Context, data: Path | None, seeds: tuple[int, ...], months: Path, out: Path) -> None:
    """Fit the detector's model anew on simulated months; the same seeds and corpora give the same model."""
    from detector.evaluation import training  # noqa: PLC0415 — see `run`

    model = training.fit_shipped(data, seeds or training.SEEDS, months, Paced(context.say))
    out.write_bytes(model.to_bytes())
    context.emit_one({"model": str(out), "bounds": model.bounds, "slope": model.slope, "shift": model.shift})


for command in (oversight.compare, oversight.adopt, oversight.canary):
    detector.add_command(command)


class Paced:
    """Tells how far a long command is, every few seconds at most."""

    EVERY_S = 5.0

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        """Say it, unless something was said a moment ago."""
        now = time.monotonic()
        if done == of or now - self._told >= self.EVERY_S:
            self._told = now
            self._say(f"{what}: {done:,} of {of:,}")


@click.group()
def alerts() -> None:
    """List alerts and decide about them."""


@alerts.command("list")
@click.option("--state", type=click.Choice(["open", "confirmed", "dismissed"]), help="Only alerts of this state.")
@click.option("--account", help="Only alerts of this account.")
@standard_options
def list_alerts(context: Context, state: ledger_alerts.State | None, account: str | None) -> None:
    """List alerts, newest first."""
    with context.database.read() as connection:
        found = ledger_alerts.every(connection, state, account)
    if context.json:
        context.emit([vars(alert) for alert in found])
        return
    context.emit([_summary(alert) for alert in found], LIST_COLUMNS)


@alerts.command("show")
@click.argument("alert_id", metavar="ID")
@standard_options
def show(context: Context, alert_id: str) -> None:
    """Show an alert with its reasons and evidence."""
    with context.database.read() as connection:
        alert = ledger_alerts.get(connection, alert_id)
    if context.json:
        context.emit_one(vars(alert))
        return
    context.emit_one({name: value for name, value in vars(alert).items() if name not in ("reasons", "evidence")})
    for reason in alert.reasons:
        click.echo(f"- {reason['text']}")
    for name, value in alert.evidence.items():
        click.echo(f"{name}: {value if name != 'daily' else ' '.join(str(day['teacher_tokens']) for day in value)}")


@alerts.command("decide")
@click.argument("alert_id", metavar="ID")
@click.option("--action", type=click.Choice(ledger_alerts.DECISIONS), required=True)
@click.option("--tokens-per-day", type=click.IntRange(min=1), help="For cap: the teacher's output tokens a day.")
@click.option("--note", required=True, help="Why, in a sentence; it is kept.")
@click.option("--finding", type=click.Choice(ledger_alerts.FINDINGS), help="What it turned out to be.")
@click.option("--for", "duration", type=Duration(), default=enforcement.DEFAULT_DURATION, help="How long [7d].")
@click.option("--operator", help="Who decides [the system user].")
@standard_options
def decide(
    context: Context,
    alert_id: str,
    action: ledger_alerts.Decision,
    tokens_per_day: int | None,
    note: str,
    finding: ledger_alerts.Finding | None,
    duration: timedelta,
    operator: str | None,
) -> None:
    """Close an alert: dismiss it, or take a step against its account and all others of its linked set."""
    with context.database.write() as connection:
        if operator is not None and operator not in {known.name for known in operators.every(connection)}:
            raise NotFound(f"no operator is called {operator!r}: `spiritsafe operators create` makes one")
        actor = operator or context.actor
        decided = ledger_alerts.decide(connection, alert_id, action, actor, note, duration, tokens_per_day, finding)
    context.emit_one(vars(decided) if context.json else _summary(decided))


@alerts.command("appeal")
@click.argument("alert_id", metavar="ID")
@click.option("--note", required=True, help="What the account says, in a sentence; it is kept.")
@click.option("--operator", help="Who heard it [the system user].")
@standard_options
def appeal(context: Context, alert_id: str, note: str, operator: str | None) -> None:
    """Note an account's appeal and open the alert again; what is in force stays until somebody decides anew."""
    with context.database.write() as connection:
        opened = ledger_alerts.appeal(connection, alert_id, operator or context.actor, note)
    context.emit_one(vars(opened) if context.json else _summary(opened))


@alerts.command("undo")
@click.argument("alert_id", metavar="ID")
@click.option("--note", required=True, help="Why, in a sentence; it is kept.")
@click.option("--operator", help="Who takes it back [the system user].")
@standard_options
def undo(context: Context, alert_id: str, note: str, operator: str | None) -> None:
    """Take the decision about an alert back: all is as it was before, and the alert is open again."""
    with context.database.write() as connection:
        opened = ledger_alerts.take_back(connection, alert_id, operator or context.actor, note)
    context.emit_one(vars(opened) if context.json else _summary(opened))


def _summary(alert: ledger_alerts.Alert) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(alert).items() if name not in ("reasons", "evidence")},
        "requests_before_alert": alert.evidence.get("requests_before_alert"),
        "teacher_tokens": alert.evidence.get("teacher_tokens"),
        "reason": _first_reason(alert.reasons),
    }


def _first_reason(reasons: list[dict[str, Any]]) -> str | None:
    return str(reasons[0]["text"]) if reasons else None
