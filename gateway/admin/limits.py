"""Limits of accounts, keys and models."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import LimitChange, LimitRow
from gateway.ledger import limits

router = APIRouter(prefix="/limits", tags=["limits"])


@router.get("")
def list_limits(house: House) -> list[LimitRow]:
    """List all limits by subject and name; a key's own requests per minute stand with the key."""
    with house.database.read() as connection:
        return [LimitRow.model_validate(limit) for limit in limits.every(connection)]


@router.patch("/{subject}/{name:path}")
def set_limits(subject: limits.Subject, name: str, body: LimitChange, house: House, actor: Actor) -> LimitRow:
    """Change the limits that are named, null ending one, and leave the others."""
    change = body.model_dump(exclude_unset=True)
    models = {model.name for model in house.settings.models}
    with house.database.write() as connection:
        return LimitRow.model_validate(limits.assign(connection, subject, name, change, actor, models))


@router.delete("/{subject}/{name:path}", status_code=204)
def clear_limits(subject: limits.Subject, name: str, house: House, actor: Actor) -> None:
    """End all limits of a subject."""
    with house.database.write() as connection:
        limits.clear(connection, subject, name, actor)
