"""Policies: which alerts put a mild step in force before a person has looked."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.admin.access import Actor, House
from gateway.admin.schemas import NewPolicy, PolicyHit, PolicyRow, Reason
from gateway.ledger import dry_runs, policies
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

router = APIRouter(prefix="/policies", tags=["policies"])


@router.get("")
def list_policies(house: House) -> list[PolicyRow]:
    """List all policies by name."""
    with house.database.read() as connection:
        return [PolicyRow.model_validate(row) for row in policies.every(connection)]


@router.post("", status_code=201)
def create_policy(body: NewPolicy, house: House, actor: Actor) -> PolicyRow:
    """Write a policy down, switched off; 403 for a step that is never automatic."""
    with house.database.write() as connection:
        row = policies.create(
            connection,
            body.name,
            body.action,
            actor,
            body.note,
            severity=body.severity,
            score=body.score,
            leaked_tokens=body.leaked_tokens,
            duration=body.duration,
            spread=timedelta() if body.within is None else body.within,
        )
    return PolicyRow.model_validate(row)


@router.get("/{name}/run")
def run_policy(name: str, house: House, days: Annotated[int, Query(ge=1, le=400)] = 14) -> list[PolicyHit]:
    """Play a policy over the alerts of past days: whom it would have hit. Nothing is done."""
    lake = Lake.of(house.settings)
    with house.database.read() as connection:
        policy = policies.get(connection, name)
    hits = dry_runs.of_policy(house.database, lake, policy, now() - timedelta(days=days))
    return [PolicyHit.model_validate(hit.row()) for hit in hits]


@router.post("/{name}/enable")
def enable_policy(name: str, body: Reason, house: House, actor: Actor) -> PolicyRow:
    """Switch a policy on."""
    with house.database.write() as connection:
        return PolicyRow.model_validate(policies.switch(connection, name, True, actor, body.note))


@router.post("/{name}/disable")
def disable_policy(name: str, body: Reason, house: House, actor: Actor) -> PolicyRow:
    """Switch a policy off; what it has put in force stays."""
    with house.database.write() as connection:
        return PolicyRow.model_validate(policies.switch(connection, name, False, actor, body.note))
