"""Notifications: which channels there are, whether they get through, and a test of each."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console.visit import Reader, Visit, Writer
from dashboards.notifications import schedule
from dashboards.notifications.messages import Item, Message
from dashboards.notifications.senders import NotSent, send
from gateway.ledger import audit, channels
from gateway.ledger.alert_events import AlertEvent
from gateway.ledger.alerts import Alert
from gateway.ledger.errors import NotFound
from gateway.ledger.identifiers import now, uuid7

router = APIRouter()


@router.get("/notifications")
def show(visit: Reader) -> Response:
    """Show the channels of the settings and where each stands."""
    return _page(visit)


@router.post("/notifications/{name}/test")
def test(visit: Writer, name: str) -> Response:
    """Send an invented alert by a channel, and say whether it was taken."""
    settings = visit.console.settings.notifications
    channel = next((channel for channel in settings.channels if channel.name == name), None)
    if channel is None:
        raise NotFound(f"no channel is called {name!r}: spiritsafe.toml names them under [[notifications.channels]]")
    with visit.console.database.write(announce=False) as connection:
        audit.record(connection, visit.operator, "notification.test", f"channel:{name}")
    try:
        send(channel, _example(settings.address))
    except NotSent as error:
        return _page(visit, problem=f"{name} did not take the message: {error}", status=502)
    return _page(visit, done=name)


def _example(address: str) -> Message:
    moment = now()
    reasons = [{"text": f"this is a test that somebody sent at {moment:%H:%M} UTC; nothing has happened"}]
    alert = Alert(uuid7(), "example-account", "low", 0.0, "open", moment, moment, reasons, {})
    root = address.rstrip("/")
    item = Item(AlertEvent(0, moment, "opened", alert.id, "low"), alert, f"{root}/notifications" if root else "")
    return Message(f"msg_{uuid7()}", (item,), f"{root}/" if root else "")


def _page(visit: Visit, *, problem: str = "", done: str = "", status: int = 200) -> Response:
    settings = visit.console.settings.notifications
    with visit.console.database.read() as connection:
        states = {state.name: state for state in channels.every(connection)}
    return visit.page(
        "notifications.html",
        status,
        settings=settings,
        channels=[(channel, states.get(channel.name)) for channel in settings.channels],
        quiet_now=schedule.is_quiet(settings, now()),
        problem=problem,
        done=done,
    )
