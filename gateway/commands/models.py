"""`spiritsafe models …`: what can answer, and a person's decision about what `auto` may use."""

from __future__ import annotations

from typing import Any

import click
import sqlalchemy as sa

from gateway.command import Context, standard_options
from gateway.ledger import marks, registry, retirements, rollouts
from gateway.ledger.identifiers import to_rfc3339
from gateway.settings import ModelSettings

COLUMNS = ("name", "role", "state", "task", "input_price", "output_price", "removed_rows", "urls")


@click.group()
def models() -> None:
    """List, promote and roll back models."""


@models.command(name="list")
@standard_options
def list_models(context: Context) -> None:
    """List base models and students; prices are nano-dollars per token."""
    with context.database.read() as connection:
        students = registry.every(connection)
        days = context.settings.distiller.withdrawn_days
        removed = {student.reference: _removed(connection, student, days) for student in students}
    rows = [_base(model) for model in context.settings.models]
    rows += [_student(student) | removed[student.reference] for student in students]
    context.emit(rows, COLUMNS)


@models.command()
@click.argument("reference")
@click.option("--operator", required=True, help="Whose decision this is.")
@click.option("--note", default="", help="Why, in a sentence.")
@standard_options
def promote(context: Context, reference: str, operator: str, note: str) -> None:
    """Let `auto` use the candidate NAME@VERSION; the task's promoted student, if any, retires."""
    with context.database.write() as connection:
        student = registry.promote(connection, reference, operator, note)
    context.emit_one(_student(student))


@models.command()
@click.argument("reference")
@click.option("--operator", required=True, help="Whose decision this is.")
@click.option("--note", default="", help="Why, in a sentence.")
@standard_options
def advance(context: Context, reference: str, operator: str, note: str) -> None:
    """Roll the candidate NAME@VERSION out a stage further: shadow, 1, 10, 50 %, then promotion."""
    with context.database.write() as connection:
        student = rollouts.advance(connection, reference, operator, note)
    context.emit_one(_student(student))


@models.command()
@click.argument("reference")
@click.option("--operator", required=True, help="Whose decision this is.")
@click.option("--note", default="", help="Why, in a sentence.")
@standard_options
def rollback(context: Context, reference: str, operator: str, note: str) -> None:
    """Take the student out of `auto`, promoted or being rolled out; it is a candidate and its process goes on."""
    with context.database.write() as connection:
        student = rollouts.back(connection, reference, operator, note)
    context.emit_one(_student(student))


def _removed(connection: sa.Connection, student: registry.Student, days: int) -> dict[str, Any]:
    """Return how many rows that it learnt from were withdrawn or erased since, and when it retires because of it."""
    rows = sum(mark.rows for mark, _ in marks.of(connection, "student", student.reference))
    until = retirements.deadline(connection, student, days)
    return {"removed_rows": rows, "retire_by": None if until is None else to_rfc3339(until)}


def _base(model: ModelSettings) -> dict[str, Any]:
    input_price, output_price = model.nano_prices
    return {
        "name": model.name,
        "role": model.role,
        "state": "declared",
        "task": None,
        "input_price": input_price,
        "output_price": output_price,
        "urls": list(model.urls),
    }


def _student(student: registry.Student) -> dict[str, Any]:
    return {
        "name": student.reference,
        "role": "student",
        "state": student.state,
        "stage": rollouts.stage_of(student),
        "task": student.task,
        "input_price": student.input_price,
        "output_price": student.output_price,
        "urls": [] if student.url is None else [student.url],
        "price_basis": student.price_basis,
        "promoted_by": student.promoted_by,
    }
