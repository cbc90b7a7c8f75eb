"""Models: what answers, what each costs, which students wait for a person, and the proof behind each of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console import gate_report, house
from dashboards.console.figures import Figures, Usage
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import audit, registry, rollouts, snapshots
from gateway.ledger.distance import Distance
from gateway.ledger.errors import Forbidden, InvalidValue, LedgerError, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.registry import Student

router = APIRouter()

DAYS = 7
ORDER = ("candidate", "promoted", "trained", "refused", "retired")


@dataclass(frozen=True)
class Training:
    """What the training wrote beside its weights: `settings` by name, and the loss by step where it was kept."""

    settings: dict[str, Any]
    steps: list[float]
    losses: list[float]


@router.get("/models")
def show_all(visit: Reader) -> Response:
    """Show base models and students, what waits for a person first."""
    settings = visit.console.settings
    figures, since = visit.console.traffic.figures(), _since()
    with visit.console.database.read() as connection:
        students = registry.every(connection)
    ordered = sorted(students, key=lambda student: ORDER.index(student.state))
    return visit.page(
        "models.html",
        bases=settings.models,
        students=[(student, gate_report.read(student.gate)) for student in ordered],
        by_model=figures.usage("model", since=since),
        total=figures.total(since),
        no_usage=Usage(),
        health=house.servers(settings.data_dir),
        days=DAYS,
    )


@router.get("/models/{reference}")
def show_one(visit: Reader, reference: str, done: str = "") -> Response:
    """Show one student."""
    return _student_page(visit, reference, done=done)


@router.post("/models/{reference}/{action}")
def change(visit: Writer, reference: str, action: str, note: Text = "") -> Response:
    """Promote a candidate, or roll back what is promoted or being rolled out, by this operator, with a note."""
    steps = {"promote": registry.promote, "rollback": rollouts.back}
    if action not in steps:
        raise NotFound(f"{action!r} is nothing that can be done to a student: promote or rollback")
    try:
        if not note.strip():
            raise InvalidValue("nothing was changed: say why in a sentence, it is what an audit will read")
        with visit.console.database.write() as connection:
            student = steps[action](connection, reference, visit.operator, note.strip())
    except (InvalidValue, Forbidden) as error:
        status = 422 if isinstance(error, InvalidValue) else 409
        return _student_page(visit, reference, problem=str(error), status=status)
    return go(f"/models/{student.reference}?done={student.state}")


def _student_page(visit: Visit, reference: str, *, problem: str = "", done: str = "", status: int = 200) -> Response:
    console = visit.console
    figures = console.traffic.figures()
    with console.database.read() as connection:
        student = registry.get(connection, reference)
        digests = {snapshot.hash for snapshot, _ in snapshots.every(connection)}
        promoted = registry.in_state(connection, "promoted")
        history = audit.recent(connection, limit=20, subject=student.reference)
    return visit.page(
        "model.html",
        status,
        student=student,
        stage=rollouts.stage_of(student),
        gate=gate_report.read(student.gate),
        training=_training(student),
        threshold=_threshold(student),
        snapshot_known=student.snapshot in digests,
        replaces=[other for other in promoted if other.task == student.task and other != student],
        usage=figures.usage("model", since=_since()).get(student.reference, Usage()),
        task_share=_task_share(student, figures),
        teacher=console.settings.model(student.teacher),
        health=house.servers(console.settings.data_dir).get(student.reference),
        history=history,
        problem=problem,
        done=done == student.state,
        days=DAYS,
    )


def _since() -> date:
    return (now() - timedelta(days=DAYS - 1)).date()


def _task_share(student: Student, figures: Figures) -> float | None:
    """Return the student's part of its task's requests, by the task that routing wrote down; None without one."""
    usage = figures.usage("task", "model", since=_since())
    of_task = sum(found.requests for (task, _model), found in usage.items() if task == student.task)
    mine = usage.get((student.task, student.reference), Usage()).requests
    return mine / of_task if of_task else None


def _training(student: Student) -> Training:
    """Read `training.json` beside the weights; where it is gone, the registry's settings serve."""
    file = Path(student.path) / "training.json"
    document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    curve = document.pop("curve", [])
    settings = {**student.training, **document, **document.pop("settings", {})}
    shown = {name: value for name, value in settings.items() if isinstance(value, (str, int, float, bool, list))}
    return Training(shown, [step["step"] for step in curve], [step["loss"] for step in curve])


def _threshold(student: Student) -> float | str | None:
    """Return the distance within which a request counts as the task's, or why it can't be read."""
    if student.adequacy is None:
        return None
    try:
        return Distance.load(Path(student.adequacy)).threshold
    except (OSError, LedgerError) as error:
        return f"can't be read: {error}"
