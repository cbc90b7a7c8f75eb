"""Alerts, and the decisions of people about them."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import AlertRow, NewDecision, Reason
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
    """Close an open alert: dismiss it, or take a step, which binds every worker within a second."""
    with house.database.write() as connection:
        decided = alerts.decide(
            connection, alert_id, body.decision, actor, body.note, body.duration, body.tokens_per_day, body.finding
        )
    return AlertRow.model_validate(decided)


@router.post("/{alert_id}/appeal")
def appeal_alert(alert_id: str, body: Reason, house: House, actor: Actor) -> AlertRow:
    """Note what the account says against an alert and open it again; what is in force stays."""
    with house.database.write() as connection:
        return AlertRow.model_validate(alerts.appeal(connection, alert_id, actor, body.note))


@router.post("/{alert_id}/undo")
def undo_decision(alert_id: str, body: Reason, house: House, actor: Actor) -> AlertRow:
    """Take the decision about an alert back: all is as it was before, and the alert is open again."""
    with house.database.write() as connection:
        return AlertRow.model_validate(alerts.take_back(connection, alert_id, actor, body.note))
