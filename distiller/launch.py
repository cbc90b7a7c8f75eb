"""Trains a student from an approved snapshot: checks the right to, runs the training child, registers the result.

Nothing is trained without an approval of exactly these bytes, and nothing is registered when a consent was withdrawn
before the weights were ready. The child works in a folder of its own that is renamed at the end: whatever is killed,
and when, no half student is left; what a killed run leaves behind is removed by the next.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from distiller.child import Show, TrainingFailed, child, follow
from distiller.fixed_rules import Asked, as_training, check_attempts, evaluation_of, fixed_rule
from distiller.snapshot import Frozen, verify
from gateway.ledger import alerts, approvals, consents, registry, snapshots
from gateway.ledger.database import Database
from gateway.ledger.distance import Distance
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.registry import Student
from gateway.ledger.snapshots import Snapshot
from gateway.settings import Settings

ADEQUACY_FILE = "adequacy.npz"


@dataclass(frozen=True)
class Recipe:
    """How to train. `layers` of the teacher are kept; `trained` false makes the baseline that learns nothing."""

    layers: int = 10
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 6e-4
    seed: int = 1
    trained: bool = True


@dataclass(frozen=True)
class Workshop:
    """Where training happens, and for whom. `teacher_path` overrides the settings' folder of the teacher's weights."""

    settings: Settings
    database: Database
    actor: str
    show: Show
    teacher_path: Path | None = None


def train(workshop: Workshop, digest: str, name: str, recipe: Recipe, asked: Asked) -> Student:
    """Train a student from the snapshot whose hash begins with `digest`, and register it as `trained`.

    Raises `Forbidden` without approval or consent, or where its evaluation rows are spent, `Corrupt` for other bytes,
    `TrainingFailed` with the child's words.
    """
    settings, database = workshop.settings, workshop.database
    if not name or any(character in name for character in "@/ ") or name.startswith(".") or name == "auto":
        raise InvalidValue(f"{name!r} can't be a student's name: use letters, digits and dashes, such as `tickets`")
    if settings.model(name) is not None:
        raise InvalidValue(f"{name!r} is a model of the settings: give the student another name")
    students = settings.data_dir / "students"
    with alone(students):
        with database.read() as connection:
            snapshot, approvers = _approved(connection, digest, settings.distiller.approvals)
            frozen = verify(Path(snapshot.path), snapshot.hash)
            check_rights(connection, frozen)
            _check_licence(settings, frozen)
            rule = fixed_rule(connection, frozen.manifest, asked)
            if recipe.trained:
                check_attempts(connection, evaluation_of(frozen.manifest), rule)
            version = registry.next_version(connection, name)
        _sweep(students)
        target = students / f"{name}@{version}"
        stage = students / f".{target.name}.stage"
        try:
            _run_child(workshop, frozen, stage, recipe, target.name)
            distance = _fit_distance(frozen, stage / ADEQUACY_FILE)
            fixed = as_training(rule, evaluation_of(frozen.manifest))
            training = _summary(stage, recipe, approvers, distance) | fixed
            student = _student(settings, snapshot, frozen, name, version, target, training)
            return _register(workshop, frozen, student, stage, target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def check_rights(connection: sa.Connection, frozen: Frozen) -> None:
    """Refuse, by `Forbidden`, a snapshot with rows of an account that withdrew its consent or is under an alert."""
    given = {consent["id"]: account for account, consent in frozen.manifest["consents"].items()}
    query = sa.select(consents.table.c.id).where(consents.table.c.id.in_(given), consents.table.c.withdrawn.is_(None))
    standing = set(connection.execute(query).scalars())
    withdrawn = sorted(given[consent] for consent in given.keys() - standing)
    barred = sorted(set(given.values()) & alerts.barred_accounts(connection))
    for accounts, why in ((withdrawn, "withdrew consent to training"), (barred, "has an open or confirmed alert")):
        if accounts:
            raise Forbidden(
                f"{', '.join(accounts)} {why} after this snapshot was frozen: select a new one, which leaves those "
                "rows out (`spiritsafe distill select`), and have it approved"
            )


def _check_licence(settings: Settings, frozen: Frozen) -> None:
    name = frozen.manifest["teacher"]["name"]
    teacher = settings.model(name)
    if teacher is None or not teacher.distillable:
        raise Forbidden(
            f"the answers of {name!r} may not train a student any more: where its licence allows it, declare the model "
            "with `distillable = true`"
        )


def teacher_folder(settings: Settings, name: str) -> Path:
    """Return the folder of a teacher's weights, which a supervised model of the settings names."""
    model = settings.model(name)
    if model is None or model.serve is None:
        raise NotFound(
            f"the weights of {name!r} are not known here: name their folder with --teacher-path, or as `path` under "
            "the model's [models.serve]"
        )
    return settings.base_dir / model.serve.path


def _approved(connection: sa.Connection, digest: str, policy: int) -> tuple[Snapshot, str]:
    """Return a snapshot with its approvers' names; `Forbidden` while they are fewer than it, or policy now, wants."""
    snapshot = snapshots.get(connection, digest)
    given, needed = approvals.of(connection, snapshot.hash), max(policy, snapshot.needed)
    if len(given) < needed:
        has = f"has {len(given)} of {needed} approvals" if given else "is not approved"
        raise Forbidden(
            f"snapshot {snapshot.hash[:12]} {has}: somebody other than {snapshot.requested_by} approves "
            f"it with `spiritsafe distill approve {snapshot.hash[:12]} --operator NAME`, or in the console"
        )
    return snapshot, " and ".join(approval.approver for approval in given)


@contextmanager
def alone(students: Path) -> Iterator[None]:
    """Hold the right to train, probes included: two would share the machine's memory and each take twice as long."""
    students.mkdir(parents=True, exist_ok=True)
    with (students / ".training.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Forbidden("another training is under way here: wait until it ends") from None
        yield


def _sweep(students: Path) -> None:
    """Remove what killed runs left: the lock is ours, so nobody is writing there."""
    for pattern in (".*.stage", "..*.stage.building"):
        for leftover in students.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


def _run_child(workshop: Workshop, frozen: Frozen, stage: Path, recipe: Recipe, reference: str) -> None:
    """Run `python -m distiller.training` in the distiller's environment, and show its steps."""
    settings = workshop.settings
    teacher = workshop.teacher_path or teacher_folder(settings, frozen.manifest["teacher"]["name"])
    spec = {
        "snapshot": str(frozen.path),
        "teacher": str(teacher.resolve()),
        "output": str(stage),
        **{name: value for name, value in asdict(recipe).items() if name != "trained"},
        "threads": settings.distiller.threads,
        "train": recipe.trained,
    }
    log = settings.data_dir / "logs" / f"train-{reference}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, log.open("w+") as errors:
        file = Path(folder, "spec.json")
        file.write_text(json.dumps(spec))
        with child(settings, Path(folder), "training", ["--spec", str(file)], stderr=errors) as started:
            follow(started.stdout or (), workshop.show)
        if started.returncode != 0:
            errors.seek(0)
            words = errors.read().strip()[-2000:] or f"it ended with status {started.returncode} and no word"
            raise TrainingFailed(f"{reference} was not trained. {words} (All it said is in {log}.)")


def _fit_distance(frozen: Frozen, path: Path) -> Distance:
    fitted = Distance.fit([row.text for row in frozen.rows("train")])
    distance = fitted.calibrated([row.text for row in frozen.rows("calibration")])
    distance.save(path)
    return distance


def _summary(stage: Path, recipe: Recipe, approvers: str, distance: Distance) -> dict[str, Any]:
    """What the registry keeps of the training; the whole curve stays in `training.json` beside the weights."""
    written = json.loads((stage / "training.json").read_text())
    losses = [step["loss"] for step in written.get("curve", [])]
    return {
        **asdict(recipe),
        "parameters": written["parameters"],
        "examples": written.get("examples"),
        "seconds": written.get("seconds"),
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "weights_sha256": written.get("weights_sha256"),
        "approved_by": approvers,
        "adequacy_threshold": distance.threshold,
    }


def _student(
    settings: Settings,
    snapshot: Snapshot,
    frozen: Frozen,
    name: str,
    version: int,
    target: Path,
    training: dict[str, Any],
) -> Student:
    teacher = settings.model(frozen.manifest["teacher"]["name"])
    return Student(
        name=name,
        version=version,
        task=snapshot.task,
        endpoint=snapshot.endpoint,
        skeleton=snapshot.skeleton,
        snapshot=snapshot.hash,
        teacher=frozen.manifest["teacher"]["name"],
        path=str(target),
        state="trained",
        created=now(),
        parameters=training.pop("parameters"),
        context_length=teacher.context_length if teacher is not None else settings.teacher.context_length,
        licence=frozen.manifest["teacher"]["licence"],
        training=training,
        adequacy=str(target / ADEQUACY_FILE),
    )


def _register(workshop: Workshop, frozen: Frozen, student: Student, stage: Path, target: Path) -> Student:
    with workshop.database.write() as connection:
        check_rights(connection, frozen)  # a withdrawal while it trained still counts
        registry.add(connection, student, workshop.actor)
        # A folder that a killed run renamed without registering it is in nobody's way.
        shutil.rmtree(target, ignore_errors=True)
        os.replace(stage, target)
    return student
