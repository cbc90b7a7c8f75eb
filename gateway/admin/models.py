"""Base models and students; promotion is a person's act."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import ModelRow, Note
from gateway.ledger import registry, rollouts
from gateway.settings import ModelSettings

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_models(house: House) -> list[ModelRow]:
    """List the base models of the settings file, then the students of the registry, newest first."""
    with house.database.read() as connection:
        students = [ModelRow.model_validate(student) for student in registry.every(connection)]
    return [_declared(model) for model in house.settings.models] + students


@router.post("/{reference}/promote")
def promote_model(reference: str, body: Note, house: House, actor: Actor) -> ModelRow:
    """Let `auto` use a candidate; the task's promoted student, if any, retires."""
    with house.database.write() as connection:
        return ModelRow.model_validate(registry.promote(connection, reference, actor, body.note))


@router.post("/{reference}/rollback")
def roll_back_model(reference: str, body: Note, house: House, actor: Actor) -> ModelRow:
    """Take a student out of `auto`, promoted or being rolled out; it is a candidate."""
    with house.database.write() as connection:
        return ModelRow.model_validate(rollouts.back(connection, reference, actor, body.note))


def _declared(model: ModelSettings) -> ModelRow:
    input_price, output_price = model.nano_prices
    return ModelRow(
        reference=model.name,
        name=model.name,
        role=model.role,
        state="declared",
        licence=model.licence,
        context_length=model.context_length,
        input_price=input_price,
        output_price=output_price,
        url=next(iter(model.urls), None),
        distillable=model.distillable,
    )
