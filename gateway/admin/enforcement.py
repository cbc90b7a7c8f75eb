"""Steps against accounts: dry runs, decisions on one or many, and taking them back."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import (
    EnforcementRow,
    EstimateShown,
    MeasuresUndone,
    MeasureTaken,
    NewMeasure,
    PlannedStep,
    Reason,
    Target,
)
from gateway.ledger import alerts, dry_runs, enforcement
from gateway.ledger.enforcement import Action, Step
from gateway.ledger.errors import InvalidValue
from gateway.ledger.lake import Lake

router = APIRouter(prefix="/enforcement", tags=["enforcement"])


@router.get("")
def list_measures(house: House, account: str | None = None) -> list[EnforcementRow]:
    """List all measures ever imposed, newest first; of one account where it is given."""
    with house.database.read() as connection:
        return [EnforcementRow.model_validate(row) for row in enforcement.history(connection, account)]


@router.post("")
def take_measure(body: NewMeasure, house: House, actor: Actor) -> MeasureTaken:
    """Take a step against accounts, as one decision that replaces what is in force against them, or clear that."""
    with house.database.write() as connection:
        names = _named(connection, body)
        if body.action == "clear":
            ended = sum(enforcement.clear(connection, name, actor, body.note) for name in names)
            return MeasureTaken(measure=None, cleared=ended)
        alert = alerts.of_set(connection, body.linked).id if body.linked else None
        taken = enforcement.take(connection, names, _step(body, body.action), actor, body.note, alert)
    rows = [EnforcementRow.model_validate(row) for row in taken]
    return MeasureTaken(measure=rows[0], measures=rows, cleared=0)


@router.post("/estimate")
def estimate_measure(body: PlannedStep, house: House) -> EstimateShown:
    """Say what a step would have done to last week's requests; nothing is done."""
    lake = Lake.of(house.settings)
    with house.database.read() as connection:
        names = _named(connection, body)
    found = dry_runs.of_step(house.database, lake, names, _step(body, body.action))
    return EstimateShown.model_validate(found.figures())


@router.post("/{decision}/undo")
def undo_measures(decision: str, body: Reason, house: House, actor: Actor) -> MeasuresUndone:
    """Take a decision back, all of it; what it replaced is in force again."""
    with house.database.write() as connection:
        undone = enforcement.undo(connection, decision, actor, body.note)
    return MeasuresUndone(
        ended=[EnforcementRow.model_validate(row) for row in undone.ended],
        restored=[EnforcementRow.model_validate(row) for row in undone.restored],
    )


def _step(body: Target, action: Action) -> Step:
    return Step(action, body.duration, body.tokens_per_day, body.after, body.spread)


def _named(connection: sa.Connection, body: Target) -> list[str]:
    if sum((bool(body.account), bool(body.accounts), bool(body.linked))) != 1:
        raise InvalidValue("name one of `account`, `accounts` and `set` (its id, or an alert's)")
    if body.linked:
        return alerts.accounts_of(connection, alerts.of_set(connection, body.linked))
    return [body.account] if body.account else body.accounts
