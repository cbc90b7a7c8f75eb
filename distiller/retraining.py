"""A student's successor without some accounts: the same recipe on rows selected anew, approved anew, for the same gate.

It takes two calls, because a person stands between them: the first freezes the rows and proposes them, the second, once
they are approved, trains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from distiller.fixed_rules import Asked, rule_of
from distiller.launch import Recipe, Workshop, train
from distiller.proposing import propose, wanted_by
from distiller.selection import Task
from distiller.snapshot import read_manifest
from gateway.ledger import marks, registry, snapshots
from gateway.ledger.errors import NotFound
from gateway.ledger.registry import Student
from gateway.ledger.snapshots import Snapshot
from gateway.settings import Settings


@dataclass(frozen=True)
class Step:
    """Where a retraining stands: the rows that wait for approval, or the successor that was trained on them."""

    snapshot: Snapshot
    student: Student | None = None


def retrain(
    workshop: Workshop, reference: str, without: Sequence[str], requester: str, say: Callable[[str], None]
) -> Step:
    """Take the next step towards a successor of a student that has learnt nothing from the accounts `without`.

    Raises what selecting and training raise; `NotFound` where the student's teacher is not in the settings any more.
    """
    with workshop.database.read() as connection:
        student = registry.get(connection, reference)
        before = snapshots.get(connection, student.snapshot)
        manifest = read_manifest(Path(before.path), before.hash)
        accounts = tuple(sorted({*without, *manifest["settings"].get("without", ())}))
        successor = _proposed(connection, before, accounts)
        approved = successor is not None and snapshots.approval(connection, successor) is not None
    if successor is None:
        wanted = replace(wanted_by(manifest, requester), without=accounts)
        task = _task(workshop.settings, manifest)
        return Step(propose(workshop.settings, workshop.database, task, wanted, say))
    if not approved:
        return Step(successor)
    return Step(successor, train(workshop, successor.hash, student.name, recipe_of(student), _asked(student)))


def recipe_of(student: Student) -> Recipe:
    """Return how a student was trained."""
    known = {field.name: student.training[field.name] for field in fields(Recipe) if field.name in student.training}
    return Recipe(**known)


def _asked(student: Student) -> Asked:
    rule = rule_of(student)
    return Asked(rule.margin, rule.alpha, rule.attempts, rule.metric)


def _task(settings: Settings, manifest: Mapping[str, Any]) -> Task:
    name = manifest["teacher"]["name"]
    teacher = settings.model(name)
    if teacher is None:
        raise NotFound(f"the teacher {name!r} is not in the settings: declare it as [[models]] again")
    return Task(manifest["task"], manifest["endpoint"], manifest["skeleton"], teacher, manifest["like"])


def _proposed(connection: sa.Connection, before: Snapshot, without: tuple[str, ...]) -> Snapshot | None:
    """Return the newest whole snapshot of the task that was proposed since, without these accounts."""
    for snapshot, _ in snapshots.every(connection):
        if snapshot.task == before.task and snapshot.created > before.created:
            manifest = read_manifest(Path(snapshot.path), snapshot.hash)
            is_whole = not marks.of(connection, "snapshot", snapshot.hash)
            if is_whole and tuple(manifest["settings"].get("without", ())) == without:
                return snapshot
    return None
