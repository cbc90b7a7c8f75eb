"""The queue, an alert with its evidence, and the decision about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from fastapi import APIRouter
from sqlalchemy import Connection
from starlette.responses import Response

from dashboards.console import cases, house, redaction, response, reveals, words
from dashboards.console.cases import Case
from dashboards.console.drawing import Mark
from dashboards.console.traffic import Figures, days_back
from dashboards.console.visit import Console, Reader, Text, Visit, Writer, go
from gateway.ledger import alerts, appeals, audit, consents, declared_uses, enforcement
from gateway.ledger.alerts import Alert
from gateway.ledger.errors import InvalidValue, LedgerError, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

router = APIRouter()

STATES = ("open", "confirmed", "dismissed", "all")
EXAMPLES = 3
CURVE_DAYS = 28


@router.get("/")
def show_queue(visit: Reader, state: str = "open", severity: str = "", q: str = "") -> Response:
    """Show the alerts of one state, the most pressing first."""
    figures = visit.console.traffic.figures()
    with visit.console.database.read() as connection:
        everything = [alert for alert in alerts.every(connection) if not alert.of_canary]
        measures = enforcement.in_force(connection)
    shown = [alert for alert in everything if _matches(alert, state, severity, q.strip().lower())]
    waiting = cases.queue([alert for alert in everything if alert.state == "open"], figures, measures)
    leaking = sum(case.rate for case in waiting)
    return visit.page(
        "queue.html",
        queue=cases.queue(shown, figures, measures),
        counts={name: sum(1 for alert in everything if name in (alert.state, "all")) for name in STATES},
        state=state,
        severity=severity,
        severities=tuple(reversed(alerts.SEVERITIES)),
        q=q,
        leaking=leaking,
        leaking_cost=leaking * visit.console.settings.teacher.nano_prices[1],
        quiet=_quiet(everything, figures),
        detector=house.detector(visit.console.settings.data_dir),
    )


@router.get("/alerts/{alert_id}")
def show_alert(visit: Reader, alert_id: str, revealed: str = "", done: str = "") -> Response:
    """Show one alert with its evidence."""
    return _alert_page(visit, alert_id, revealed=revealed, done=done)


@router.post("/alerts/{alert_id}/decide")
def decide(
    visit: Writer, alert_id: str, decision: Text = "", days: Text = "7", tokens: Text = "", note: Text = ""
) -> Response:
    """Close an alert by this operator's decision; what the ledger refuses is said on the page, with its remedy."""
    form = {"decision": decision, "days": days, "tokens": tokens, "note": note}
    try:
        with visit.console.database.write() as connection:
            response.decide(connection, alert_id, visit.operator, form)
    except NotFound:
        raise
    except LedgerError as error:
        status = 422 if isinstance(error, InvalidValue) else 409
        return _alert_page(visit, alert_id, problem=str(error), form=form, status=status)
    return go(f"/alerts/{alert_id}?done=decided")


@router.post("/alerts/{alert_id}/undo")
def undo(visit: Writer, alert_id: str, note: Text = "") -> Response:
    """Take the decision about an alert back."""
    return _reopen(visit, alert_id, note, alerts.take_back, "undone")


@router.post("/alerts/{alert_id}/appeal")
def appeal(visit: Writer, alert_id: str, note: Text = "") -> Response:
    """Note what the account says against an alert, and open it again."""
    return _reopen(visit, alert_id, note, alerts.appeal, "appealed")


def _reopen(visit: Visit, alert_id: str, note: str, way: Callable[..., Alert], done: str) -> Response:
    try:
        if not note.strip():
            raise InvalidValue("nothing was done: say why in a sentence, it is what an audit will read")
        with visit.console.database.write() as connection:
            way(connection, alert_id, visit.operator, note)
    except NotFound:
        raise
    except LedgerError as error:
        return _alert_page(visit, alert_id, problem=str(error), status=422)
    return go(f"/alerts/{alert_id}?done={done}")


@router.post("/alerts/{alert_id}/reveal")
def reveal(visit: Writer, alert_id: str, reason: Text = "") -> Response:
    """Open the examples to this operator for ten minutes, for a reason that the audit log keeps."""
    try:
        with visit.console.database.write() as connection:
            alert = alerts.get(connection, alert_id)
            reveal_id = reveals.ask(
                connection, visit.operator, alert.account, _place(alert_id), _examples(alert), reason
            )
    except InvalidValue as error:
        return _alert_page(visit, alert_id, reveal_problem=str(error), status=422)
    return go(f"/alerts/{alert_id}?revealed={reveal_id}#examples")


def _alert_page(
    visit: Visit,
    alert_id: str,
    *,
    revealed: str = "",
    done: str = "",
    problem: str = "",
    reveal_problem: str = "",
    form: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    console = visit.console
    figures = console.traffic.figures()
    with console.database.read() as connection:
        alert = alerts.get(connection, alert_id)
        measures = enforcement.in_force(connection)
        case = cases.build(alert, figures, measures)
        waiting = cases.queue(alerts.every(connection, state="open"), figures, measures)
        opened = reveals.find(connection, visit.operator, alert.account, _place(alert_id), revealed)
        values = _account_facts(connection, alert) | _response(connection, console, alert, figures, form)
        marks = _marks(connection, alert)
    days = _curve_days(case)
    return visit.page(
        "alert.html",
        status,
        case=case,
        alert=alert,
        days=days,
        tokens=[case.daily.get(day, 0) for day in days],
        marks=marks,
        share=_share(case, figures),
        examples=_example_parts(console, alert),
        reveal=opened,
        place_in_queue=_position(waiting, alert_id),
        next_alert=next((other.alert for other in waiting if other.alert.id != alert_id), None),
        form=form or {"decision": "", "days": "7", "tokens": "", "note": ""},
        problem=problem,
        reveal_problem=reveal_problem,
        done=done if (done == "decided") is (alert.state != "open") else "",
        **values,
    )


def _response(
    connection: Connection, console: Console, alert: Alert, figures: Figures, form: dict[str, str] | None
) -> dict[str, Any]:
    """Return what the panel beside the alert shows; the ladder is played over the traffic while it can be used."""
    hit = alerts.accounts_of(connection, alert)
    values: dict[str, Any] = {"appeals": appeals.of_alert(connection, alert.id), "rungs": [], "cap": 0}
    if alert.state == "open":
        tokens = (form or {}).get("tokens", "")
        typed = int(tokens) if tokens.isdecimal() and len(tokens) <= 12 else 0
        values["cap"] = typed or response.proposed_cap(hit, figures)
        lake = Lake.of(console.settings)
        values["rungs"] = response.ladder(connection, lake, hit, values["cap"])
    return values | {"expiries": response.EXPIRIES, "hit": hit, "hit_in_words": response.names_in_words(hit)}


def _account_facts(connection: Connection, alert: Alert) -> dict[str, Any]:
    return {
        "uses": declared_uses.of_account(connection, alert.account),
        "consent": consents.in_force(connection).get(alert.account),
        "others": [other for other in alerts.every(connection, account=alert.account) if other.id != alert.id],
        "history": audit.recent(connection, limit=20, subject=alert.account),
        "assessment": _assessment(connection, alert),
        "now": now(),
    }


def _assessment(connection: Connection, alert: Alert) -> audit.AuditRow | None:
    """Return the audit row of the newest `spiritsafe distill assess` of this alert, which has its figures."""
    rows = audit.recent(connection, subject=alert.account, action="alert.assessed")
    return next((row for row in rows if row.detail.get("alert") == alert.id), None)


def _marks(connection: Connection, alert: Alert) -> list[Mark]:
    marks = [Mark(alert.opened.date(), "alert")]
    for measure in enforcement.history(connection, alert.account):
        marks.append(Mark(measure.created.date(), words.taken(measure.action)))
        if measure.cleared is not None:
            marks.append(Mark(measure.cleared.date(), "cleared"))
    if alert.decision == "dismiss" and alert.decided is not None:
        marks.append(Mark(alert.decided.date(), "dismissed"))
    return sorted(set(marks), key=lambda mark: mark.day)


def _curve_days(case: Case) -> list[date]:
    span = (now().date() - min([*case.daily, case.alert.opened.date()])).days + 1
    return days_back(max(cases.QUEUE_DAYS, min(span, CURVE_DAYS)))


def _share(case: Case, figures: Figures) -> float | None:
    """Return the account's part of all teacher tokens since its first day with evidence."""
    everyone = sum(cell.usage.teacher_tokens for cell in figures.since(case.first_day))
    own = sum(tokens for day, tokens in case.daily.items() if day >= case.first_day)
    return own / everyone if everyone else None


def _examples(alert: Alert) -> list[str]:
    return [str(record_id) for record_id in alert.evidence.get("examples", [])][:EXAMPLES]


def _example_parts(console: Console, alert: Alert) -> list[dict[str, Any]]:
    found = []
    for record_id in _examples(alert):
        record = console.traffic.record(record_id) or {}
        found.append({"id": record_id, "record": record, "parts": redaction.parts(record)})
    return found


def _place(alert_id: str) -> str:
    return f"alert {alert_id}"


def _position(waiting: list[Case], alert_id: str) -> int | None:
    return next((place for place, case in enumerate(waiting, 1) if case.alert.id == alert_id), None)


def _matches(alert: Alert, state: str, severity: str, text: str) -> bool:
    haystack = " ".join([alert.account, *(str(reason.get("text", "")) for reason in alert.reasons)]).lower()
    return state in (alert.state, "all") and severity in (alert.severity, "") and text in haystack


def _quiet(everything: list[Alert], figures: Figures) -> dict[str, Any]:
    closed = max((alert.decided for alert in everything if alert.decided is not None), default=None)
    since = figures.since(closed.date() if closed else None)
    return {"closed": closed, "requests": sum(cell.usage.requests for cell in since)}
