"""`spiritsafe distill`: from logged requests to a proven student, one decision at a time."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from distiller import trial
from distiller.evaluation import read_answers
from distiller.fixed_rules import METRICS, Asked
from distiller.gate import ALPHA, MARGIN, Metric
from distiller.launch import Recipe, Workshop, check_rights
from distiller.launch import train as train_student
from distiller.progress import Progress
from distiller.publish import publish as publish_student
from distiller.selection import WORDS, rights_now, select, task_like
from distiller.slices import checked
from distiller.snapshot import Frozen, freeze, read_manifest, verify
from distiller.splitting import Sizes, split
from gateway.command import Context, standard_options
from gateway.ledger import erasures, marks, operators, registry, snapshots
from gateway.ledger.approvals import Approval
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import from_rfc3339, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.snapshots import Snapshot

SIZES = Sizes()
RECIPE = Recipe()


@click.group()
def distill() -> None:
    """Distil students from what may be learnt from: select → approve → train → evaluate → publish."""


@distill.command("select")
@standard_options
@click.option("--task", required=True, help="The task's name: snapshot, student and route carry it.")
@click.option("--like", required=True, metavar="REQUEST_ID", help="A request of the task.")
@click.option("--requested-by", metavar="OPERATOR", help="Who asks for it, and may not approve it [the system user].")
@click.option("--since", metavar="TIME", help="Only requests since then, such as 2026-11-24T00:00:00Z.")
@click.option("--slice", "slices", multiple=True, metavar="KEY=VALUE", help="Protect the requests with that metadata.")
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
    gate_rows: int,
    calibration_rows: int,
    least_train_rows: int,
) -> None:
    """Freeze the rows of one task that may train a student, and propose them for approval."""
    sizes = Sizes(gate_rows, calibration_rows, least_train_rows)
    moment, protected = _moment(since), checked(slices)
    lake = Lake.of(context.settings)
    chosen = task_like(lake, context.settings, task, like)
    with context.database.read() as connection:
        requester = _operator(connection, requested_by) if requested_by else context.actor
        rights = rights_now(connection, chosen.teacher)
    selection = select(lake, chosen, rights, moment, protected)
    settings = {**vars(sizes), "since": since, "slices": list(protected)}
    try:
        splits = split(selection.rows, sizes)
    except InvalidValue as error:
        raise InvalidValue(f"{error}. Left out: {_in_words(selection.left_out)}") from error
    frozen = freeze(context.settings.data_dir / "snapshots", chosen, selection, splits, rights, settings)
    try:
        with context.database.write() as connection:
            check_rights(connection, frozen)  # a withdrawal since the rights were read still counts
            snapshot = snapshots.propose(connection, _proposal(frozen, requester))
    except Forbidden:
        _discard(context, frozen)
        raise
    _tell(context, snapshot)


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
        lost = [_loss(mark, erasure) for mark, erasure in marks.of(connection, "snapshot", snapshot.hash)]
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


def _proposal(frozen: Frozen, requester: str) -> Snapshot:
    manifest = frozen.manifest
    return snapshots.new(
        frozen.hash,
        manifest["task"],
        manifest["endpoint"],
        manifest["skeleton"],
        str(frozen.path),
        requester,
        frozen.report,
    )


def _discard(context: Context, frozen: Frozen) -> None:
    """Remove a folder that nobody proposed; one that was proposed earlier is the withdrawal's to take care of."""
    with context.database.read() as connection:
        proposed = any(snapshot.hash == frozen.hash for snapshot, _ in snapshots.every(connection))
    if not proposed:
        shutil.rmtree(frozen.path)


def _tell(context: Context, snapshot: Snapshot) -> None:
    rows = ", ".join(f"{count} {name}" for name, count in snapshot.report["rows"].items())
    context.say(f"Frozen: {rows}. Left out: {_in_words(snapshot.report['left_out'])}.")
    context.say(f"Next, by another person: spiritsafe distill approve {snapshot.hash[:12]} --operator NAME")
    context.emit_one(vars(snapshot))


def _in_words(left_out: dict[str, int]) -> str:
    return "; ".join(f"{count} because {WORDS[reason]}" for reason, count in left_out.items()) or "nothing"


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


def _loss(mark: marks.Mark, erasure: erasures.Erasure) -> dict[str, Any]:
    return {"erasure": erasure.id, "kind": erasure.kind, "rows": mark.rows, "begun": to_rfc3339(erasure.begun)}


def _student(student: registry.Student) -> dict[str, Any]:
    return {"reference": student.reference} | vars(student)
