"""`spiritsafe distill`: from logged requests to a proven student, one decision at a time."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from distiller import assessment_report, trial
from distiller.assessment import Bench, Probe
from distiller.assessment import assess as assess_alert
from distiller.evaluation import read_answers
from distiller.fixed_rules import METRICS, Asked
from distiller.gate import ALPHA, MARGIN, Metric
from distiller.launch import Recipe, Workshop
from distiller.launch import train as train_student
from distiller.lineage import traces
from distiller.live_pairs import MOST_AT_ONCE, Watch, look
from distiller.opportunities import DAYS, opportunities
from distiller.probe_sets import LEAST_ROWS, LEAST_SEEDS
from distiller.progress import Progress
from distiller.proposing import Wanted, in_words, propose
from distiller.publish import publish as publish_student
from distiller.retraining import retrain
from distiller.selection import MOST_PER_ACCOUNT, task_like
from distiller.slices import checked
from distiller.snapshot import read_manifest, verify
from distiller.splitting import Sizes
from gateway.command import Context, standard_options
from gateway.ledger import erasures, marks, operators, registry, retirements, snapshots
from gateway.ledger.approvals import Approval
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.identifiers import from_rfc3339, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.snapshots import Snapshot

OPPORTUNITY_COLUMNS = (
    "estimate_a_day", "saved_a_day", "cost_a_day", "requests_a_day", "price_gap", "adequate", "predictable", "usable",
    "examples",
)  # fmt: skip
SIZES = Sizes()
RECIPE = Recipe()


@click.group()
def distill() -> None:
    """Distil students from what may be learnt from: select → approve → train → evaluate → publish."""


@distill.command("opportunities")
@standard_options
@click.option("--days", type=click.IntRange(1, 400), default=DAYS, show_default=True, help="How far back to look.")
@click.option("--most", type=click.IntRange(1, 100), default=10, show_default=True, help="How many to show.")
def show_opportunities(context: Context, days: int, most: int) -> None:
    """Rank the teacher's traffic by what a student is likely to save; money is nano-dollars a day."""
    lake = Lake.of(context.settings)
    with context.database.read() as connection:
        found = opportunities(context.settings, connection, lake, days, most)
    context.emit((one.as_row() for one in found), OPPORTUNITY_COLUMNS)
    if found and found[0].examples:
        context.say(f"Next: spiritsafe distill select --task NAME --like {found[0].examples[-1]}")


@distill.command("select")
@standard_options
@click.option("--task", required=True, help="The task's name: snapshot, student and route carry it.")
@click.option("--like", required=True, metavar="REQUEST_ID", help="A request of the task.")
@click.option("--requested-by", metavar="OPERATOR", help="Who asks for it, and may not approve it [the system user].")
@click.option("--since", metavar="TIME", help="Only requests since then, such as 2026-11-24T00:00:00Z.")
@click.option("--slice", "slices", multiple=True, metavar="KEY=VALUE", help="Protect the requests with that metadata.")
@click.option("--most-per-account", type=click.IntRange(min=1), default=MOST_PER_ACCOUNT, show_default=True)
@click.option("--new-evaluation", is_flag=True, help="Freeze newer evaluation rows instead of the task's former ones.")
@click.option("--by-account/--by-time", default=True, show_default=True, help="Evaluate on accounts not learnt from.")
@click.option("--gate-rows", type=click.IntRange(min=1), default=SIZES.gate, show_default=True)
@click.option("--calibration-rows", type=click.IntRange(min=20), default=SIZES.calibration, show_default=True)
@click.option("--least-train-rows", type=click.IntRange(min=20), default=SIZES.least_train, show_default=True)
def select_rows(
    context: Context,
    task: str,
    like: str,
    requested_by: str | None,
    since: str | None,
    slices: tuple[str, ...],
    most_per_account: int,
    new_evaluation: bool,
    by_account: bool,
    gate_rows: int,
    calibration_rows: int,
    least_train_rows: int,
) -> None:
    """Freeze the rows of one task that may train a student, and propose them for approval."""
    _moment(since)
    sizes = Sizes(gate_rows, calibration_rows, least_train_rows)
    chosen = task_like(Lake.of(context.settings), context.settings, task, like)
    with context.database.read() as connection:
        requester = _operator(connection, requested_by) if requested_by else context.actor
    wanted = Wanted(requester, since, checked(slices), sizes, most_per_account, (), new_evaluation, by_account)
    _tell(context, propose(context.settings, context.database, chosen, wanted, context.say))


@distill.command("list")
@standard_options
def list_snapshots(context: Context) -> None:
    """List snapshots, newest first, with who approved them."""
    with context.database.read() as connection:
        rows = [_row(snapshot, approval) for snapshot, approval in snapshots.every(connection)]
    context.emit(rows, ("hash", "task", "rows", "requested_by", "approved_by", "created"))


@distill.command("show")
@standard_options
@click.argument("digest", metavar="HASH")
@click.option("--rows", "with_rows", is_flag=True, help="Print every row's split, id and hash instead.")
def show(context: Context, digest: str, with_rows: bool) -> None:
    """Show a snapshot (by its hash, or by a student made from it) after re-hashing every byte of it."""
    with context.database.read() as connection:
        student = registry.find(connection, digest) if len(digest) < 64 else None
        snapshot = snapshots.get(connection, student.snapshot if student is not None else digest)
        approval = dict(_approvals(connection)).get(snapshot.hash)
        made = [row.reference for row in registry.every(connection) if row.snapshot == snapshot.hash]
        days = context.settings.distiller.withdrawn_days
        lost = [_loss(mark, erasure, days) for mark, erasure in marks.of(connection, "snapshot", snapshot.hash)]
    # One that lost rows is shown as it was approved, by ids and hashes; its marks say what it lost.
    path = Path(snapshot.path)
    manifest = read_manifest(path, snapshot.hash) if lost else verify(path, snapshot.hash).manifest
    if with_rows:
        parts = manifest["splits"].items()
        context.emit({"split": name, "id": row, "sha256": sha} for name, part in parts for row, sha in part["rows"])
        return
    names = ("endpoint", "skeleton", "teacher", "lake", "code", "settings", "consents", "report")
    context.emit_one(
        _row(snapshot, approval) | {"students": made, "marks": lost} | {name: manifest[name] for name in names}
    )


@distill.command("lineage")
@standard_options
@click.argument("subject", metavar="REQUEST_ID|ACCOUNT|STUDENT")
def show_lineage(context: Context, subject: str) -> None:
    """Show which students learnt from a request or an account, or which rows a student (NAME@VERSION) learnt from."""
    with context.database.read() as connection:
        student = registry.find(connection, subject) if "@" in subject else None
        if student is None:
            context.emit((trace.as_row() for trace in traces(connection, subject)), ("snapshot", "rows", "students"))
            return
        snapshot = snapshots.get(connection, student.snapshot)
    parts = read_manifest(Path(snapshot.path), snapshot.hash)["splits"].items()
    rows = ((name, row, sha) for name, part in parts for row, sha in part["rows"])
    context.emit({"split": name, "id": row, "sha256": sha, "snapshot": snapshot.hash} for name, row, sha in rows)


@distill.command("approve")
@standard_options
@click.argument("digest", metavar="HASH")
@click.option("--operator", required=True, help="Who approves: somebody other than who asked for it.")
@click.option("--note", default="", help="Why.")
def approve(context: Context, digest: str, operator: str, note: str) -> None:
    """Approve a snapshot's hash: only approved bytes train."""
    with context.database.read() as connection:
        snapshot = snapshots.get(connection, digest)
    verify(Path(snapshot.path), snapshot.hash)
    with context.database.write() as connection:
        approval = snapshots.approve(connection, snapshot.hash, _operator(connection, operator), note)
    context.emit_one(vars(approval))


@distill.command("train")
@standard_options
@click.argument("digest", metavar="HASH")
@click.option("--name", required=True, help="The student's name; a name known gets its next version.")
@click.option("--untrained", is_flag=True, help="Only drop layers: the baseline that learnt nothing.")
@click.option("--layers", type=click.IntRange(min=1), default=RECIPE.layers, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=RECIPE.epochs, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=RECIPE.batch_size, show_default=True)
@click.option("--learning-rate", type=float, default=RECIPE.learning_rate, show_default=True)
@click.option("--seed", type=int, default=RECIPE.seed, show_default=True)
@click.option("--teacher-path", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Its weights.")
@click.option("--margin", type=click.FloatRange(0, 1, min_open=True), help=f"A share [as fixed before, else {MARGIN}].")
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True), help=f"For all attempts together [{ALPHA}].")
@click.option("--attempts", type=click.IntRange(1, 100), help="Sealed tests that the evaluation rows are for [1].")
@click.option("--metric", type=click.Choice(METRICS), help="`fields`: the F1 of a JSON answer's fields [exact].")
def train(
    context: Context,
    digest: str,
    name: str,
    untrained: bool,
    teacher_path: Path | None,
    margin: float | None,
    alpha: float | None,
    attempts: int | None,
    metric: Metric | None,
    **settings: Any,
) -> None:
    """Train a student on an approved snapshot; the gate's rule is fixed by the first one of its evaluation rows."""
    recipe = Recipe(**settings, trained=not untrained)
    progress = Progress(f"Training {name}")
    workshop = Workshop(context.settings, context.database, context.actor, progress.show, teacher_path)
    student = train_student(workshop, digest, name, recipe, Asked(margin, alpha, attempts, metric))
    context.say(f"{student.reference} is registered; `spiritsafe up` serves it, then `spiritsafe distill evaluate` it.")
    context.emit_one(_student(student))


@distill.command("retrain")
@standard_options
@click.argument("reference", metavar="STUDENT")
@click.option("--without", "without", required=True, multiple=True, metavar="ACCOUNT", help="Whose rows to leave out.")
@click.option("--requested-by", metavar="OPERATOR", help="Who asks for it, and may not approve it [the system user].")
@click.option("--teacher-path", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Its weights.")
def retrain_student(
    context: Context, reference: str, without: tuple[str, ...], requested_by: str | None, teacher_path: Path | None
) -> None:
    """Make a student's successor without some accounts: propose its rows first, train it once they are approved."""
    with context.database.read() as connection:
        requester = _operator(connection, requested_by) if requested_by else context.actor
    progress = Progress(f"Training the successor of {reference}")
    workshop = Workshop(context.settings, context.database, context.actor, progress.show, teacher_path)
    step = retrain(workshop, reference, without, requester, context.say)
    if step.student is None:
        _tell(context, step.snapshot)
        context.say("Then run this command again: it trains once the snapshot is approved.")
        return
    context.say(
        f"{step.student.reference} is registered: `spiritsafe distill evaluate` it; promoting it retires the old."
    )
    context.emit_one(_student(step.student))


@distill.command("evaluate")
@standard_options
@click.argument("reference", metavar="STUDENT")
@click.option("--answers", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Known answers, by id.")
@click.option("--margin", type=float, help="Refused unless it is what was fixed before training.")
@click.option("--alpha", type=float, help="Refused unless it is what was fixed before training.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True)
@click.option("--wait", type=click.FloatRange(min=0), default=300.0, show_default=True, help="Seconds until served.")
def evaluate(
    context: Context,
    reference: str,
    answers: Path | None,
    margin: float | None,
    alpha: float | None,
    concurrency: int,
    wait: float,
) -> None:
    """Ask student and teacher the held-out requests, and let the gate decide once."""
    known = read_answers(answers) if answers is not None else None
    progress = Progress(f"Asking {reference}")
    around = trial.Surroundings(
        context.settings, context.database, context.actor, context.say, progress.show, wait_s=wait
    )
    student = trial.evaluate(around, reference, known, trial.Demand(margin, alpha, concurrency))
    context.emit_one(_student(student))


@distill.command("watch")
@standard_options
@click.argument("reference", metavar="STUDENT")
@click.option("--most", type=click.IntRange(1, 10_000), default=MOST_AT_ONCE, show_default=True, help="Pairs at once.")
@click.option("--every", type=click.FloatRange(min=1), help="Look again and again, so many seconds apart [once].")
def watch(context: Context, reference: str, most: int, every: float | None) -> None:
    """Compare a rollout's live pairs and take a look; one that is surely worse than before ends by itself."""
    around = Watch(context.settings, context.database, most)
    while True:
        taken = look(around, reference)
        context.emit_one(vars(taken))
        if every is None or taken.outcome == "failed":
            break
        time.sleep(every)
    if taken.outcome == "failed":
        context.say(f"The rollout of {reference} ended: `auto` asks it no more.")


@distill.command("assess")
@standard_options
@click.argument("alert", metavar="ALERT")
@click.option("--operator", metavar="OPERATOR", help="Who looks [the system user].")
@click.option("--note", default="", help="Why; an audit will read it.")
@click.option("--rows", type=click.IntRange(min=LEAST_ROWS), default=LEAST_ROWS, show_default=True, help="A probe's.")
@click.option("--seeds", type=click.IntRange(LEAST_SEEDS, 100), default=LEAST_SEEDS, show_default=True)
@click.option("--teacher-path", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Its weights.")
def assess(
    context: Context, alert: str, operator: str | None, note: str, rows: int, seeds: int, teacher_path: Path | None
) -> None:
    """Measure what an alert's accounts took: how much a probe learns from their answers, beside one of others'.

    The probes are deleted; the figures are kept in the audit log, and nothing follows from them by itself.
    """
    with context.database.read() as connection:
        actor = _operator(connection, operator) if operator else context.actor
    progress = Progress("Training probes")
    bench = Bench(context.settings, context.database, actor, progress.show, teacher_path)
    made = assess_alert(bench, alert, Probe(rows=rows, seeds=seeds), note)
    if context.json:
        context.emit_one(made.as_row())
    else:
        click.echo(assessment_report.in_words(made))


@distill.command("publish")
@standard_options
@click.argument("reference", metavar="STUDENT")
def publish(context: Context, reference: str) -> None:
    """Write the model card of a student that passed the gate, beside its weights."""
    file = publish_student(context.database, reference, context.actor)
    context.emit_one({"student": reference, "card": str(file)})


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else from_rfc3339(text)
    except ValueError as error:
        raise InvalidValue(f"--since {text!r} is no time ({error}): write it as 2026-11-24T00:00:00Z") from error


def _operator(connection: sa.Connection, name: str) -> str:
    if all(operator.name != name for operator in operators.every(connection)):
        raise NotFound(f"no operator is called {name!r}: `spiritsafe operators list` shows those there are")
    return name


def _tell(context: Context, snapshot: Snapshot) -> None:
    rows = ", ".join(f"{count} {name}" for name, count in snapshot.report["rows"].items())
    context.say(f"Frozen: {rows}. Left out: {in_words(snapshot.report['left_out'])}.")
    who = "another person" if snapshot.needed == 1 else f"{snapshot.needed} other persons"
    context.say(f"Next, by {who}: spiritsafe distill approve {snapshot.hash[:12]} --operator NAME")
    context.emit_one(vars(snapshot))


def _approvals(connection: sa.Connection) -> list[tuple[str, Approval]]:
    return [(snapshot.hash, approval) for snapshot, approval in snapshots.every(connection) if approval is not None]


def _row(snapshot: Snapshot, approval: Approval | None) -> dict[str, Any]:
    return {
        "hash": snapshot.hash,
        "task": snapshot.task,
        "rows": snapshot.report["rows"],
        "requested_by": snapshot.requested_by,
        "approved_by": approval.approver if approval is not None else None,
        "created": snapshot.created,
        "path": snapshot.path,
    }


def _loss(mark: marks.Mark, erasure: erasures.Erasure, days: int) -> dict[str, Any]:
    """What a snapshot lost: it can't be made again, and its students retire by that date."""
    retire_by = to_rfc3339(retirements.retire_by(erasure, days))
    begun = to_rfc3339(erasure.begun)
    return {"erasure": erasure.id, "kind": erasure.kind, "rows": mark.rows, "begun": begun, "retire_by": retire_by}


def _student(student: registry.Student) -> dict[str, Any]:
    return {"reference": student.reference} | vars(student)
