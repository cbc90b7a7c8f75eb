"""The gate's rule of an evaluation set: fixed by the first student that is to be tested on it, spent by every test.

What was fixed stands in the registry, with each student. Nobody can ask for another margin, α, number of attempts or
metric once one student exists, and after the last attempt the set tests nobody: it has told all that it can tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

import sqlalchemy as sa

from distiller.gate import Metric, Rule
from gateway.ledger import registry
from gateway.ledger.errors import Forbidden
from gateway.ledger.registry import Student

_PREFIX = "gate_"


@dataclass(frozen=True)
class Asked:
    """What somebody asks of the gate; None takes what was fixed before, else the default."""

    margin: float | None = None
    alpha: float | None = None
    attempts: int | None = None
    metric: Metric | None = None


METRICS: tuple[Metric, ...] = get_args(Metric)


def evaluation_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of a snapshot's evaluation set: the SHA-256 of its rows' ids, whatever else the snapshot has."""
    ids = "\n".join(row_id for row_id, *_ in manifest["splits"]["gate"]["rows"])
    return hashlib.sha256(ids.encode()).hexdigest()


def fixed_rule(connection: sa.Connection, manifest: Mapping[str, Any], asked: Asked) -> Rule:
    """Return the rule of a snapshot's evaluation set; `Forbidden` where another one was fixed before."""
    wanted = {name: value for name, value in vars(asked).items() if value is not None}
    tested = _tested_on(connection, evaluation_of(manifest))
    if not tested:
        return Rule(**wanted, slices=tuple(manifest["settings"].get("slices", ())))
    rule = rule_of(tested[-1])
    for name, value in wanted.items():
        if value != getattr(rule, name):
            raise Forbidden(
                f"--{name} {value} is not the {getattr(rule, name)} that was fixed for these evaluation rows when "
                f"{tested[-1].reference} was trained: leave it out, or select with --new-evaluation"
            )
    return rule


def attempts_left(connection: sa.Connection, evaluation: str, rule: Rule) -> int:
    """Return how many sealed tests the evaluation set has left."""
    # A baseline is never a candidate, so its test can let nothing wrong through and spends nothing.
    candidates = [student for student in _tested_on(connection, evaluation) if is_candidate(student)]
    return rule.attempts - sum(looks(student) for student in candidates)


def check_attempts(connection: sa.Connection, evaluation: str, rule: Rule) -> None:
    """Raise `Forbidden` when every attempt that was fixed beforehand is spent."""
    if attempts_left(connection, evaluation, rule) <= 0:
        attempts = "the one sealed test is" if rule.attempts == 1 else f"all {rule.attempts} sealed tests are"
        raise Forbidden(
            f"{attempts} spent that were fixed for these evaluation rows beforehand (α {rule.alpha:.0%}): freeze newer "
            "ones with `spiritsafe distill select --new-evaluation`, and train on that snapshot"
        )


def looks(student: Student) -> int:
    """Return how many sealed tests a student has had."""
    return 0 if student.gate is None else int(student.gate.get("looks", 1))


def is_candidate(student: Student) -> bool:
    """Say whether a student was trained at all; a baseline, whose layers were only dropped, is measured and no more."""
    return bool(student.training.get("trained", True))


def as_training(rule: Rule, evaluation: str) -> dict[str, Any]:
    """Return the rule as fields of a student's `training`."""
    fixed = {f"{_PREFIX}{field.name}": getattr(rule, field.name) for field in fields(rule)}
    return fixed | {f"{_PREFIX}slices": list(rule.slices), f"{_PREFIX}evaluation": evaluation}


def rule_of(student: Student) -> Rule:
    """Return the rule that was fixed when the student was trained."""
    training = student.training
    known = {
        field.name: training[f"{_PREFIX}{field.name}"] for field in fields(Rule) if f"{_PREFIX}{field.name}" in training
    }
    return Rule(**(known | {"slices": tuple(known.get("slices", ()))}))


def evaluation_tested(student: Student) -> str:
    """Return the evaluation set that a student is tested on."""
    return str(student.training[f"{_PREFIX}evaluation"])


def _tested_on(connection: sa.Connection, evaluation: str) -> list[Student]:
    """Return the students of an evaluation set, newest first."""
    name = f"{_PREFIX}evaluation"
    return [student for student in registry.every(connection) if student.training.get(name) == evaluation]
