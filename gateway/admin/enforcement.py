"""Measures against accounts."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import EnforcementRow, MeasureTaken, NewMeasure
from gateway.ledger import enforcement

router = APIRouter(prefix="/enforcement", tags=["enforcement"])


@router.get("")
def list_measures(house: House, account: str | None = None) -> list[EnforcementRow]:
    """List all measures ever imposed, newest first; of one account where it is given."""
    with house.database.read() as connection:
        return [EnforcementRow.model_validate(row) for row in enforcement.history(connection, account)]


@router.post("")
def take_measure(body: NewMeasure, house: House, actor: Actor) -> MeasureTaken:
    """Divert or suspend an account, replacing the measure there is, or clear it."""
    with house.database.write() as connection:
        if body.action == "clear":
            ended = enforcement.clear(connection, body.account, actor, body.note)
            return MeasureTaken(measure=None, cleared=ended)
        row = enforcement.impose(connection, body.account, body.action, actor, body.note, body.duration)
    return MeasureTaken(measure=EnforcementRow.model_validate(row), cleared=0)
