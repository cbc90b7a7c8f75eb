"""Alerts, and the decisions of people about them."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import AlertRow, NewDecision
from gateway.ledger import alerts

router = APIRouter(prefix="/alerts", tags=["alerts"])


@router.get("")
def list_alerts(house: House, state: alerts.State | None = None, account: str | None = None) -> list[AlertRow]:
    """List alerts, newest first; of one state or account where given."""
    with house.database.read() as connection:
        return [AlertRow.model_validate(row) for row in alerts.every(connection, state, account)]


@router.get("/{alert_id}")
def show_alert(alert_id: str, house: House) -> AlertRow:
    """Show one alert with its reasons and evidence."""
    with house.database.read() as connection:
        return AlertRow.model_validate(alerts.get(connection, alert_id))


@router.post("/{alert_id}/decide")
def decide_alert(alert_id: str, body: NewDecision, house: House, actor: Actor) -> AlertRow:
    """Close an open alert: dismiss it, or put a measure in force, which binds every worker within a second."""
    with house.database.write() as connection:
        decided = alerts.decide(connection, alert_id, body.decision, actor, body.note, body.duration)
    return AlertRow.model_validate(decided)
