"""An alert with its evidence, who has it, and the decision about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from sqlalchemy import Connection
from starlette.responses import Response

from dashboards.console import cases, redaction, response, reveals, words
from dashboards.console.cases import Case
from dashboards.console.drawing import Mark
from dashboards.console.figures import Figures, days_back
from dashboards.console.view import of_text
from dashboards.console.visit import Console, Reader, Text, Visit, Writer, go
from gateway.ledger import (
    alert_queue,
    alerts,
    appeals,
    audit,
    consents,
    declared_uses,
    enforcement,
    looks,
    operators,
)
from gateway.ledger.alerts import Alert
from gateway.ledger.errors import InvalidValue, LedgerError, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake

router = APIRouter()

EXAMPLES = 3
CURVE_DAYS = 28
OTHERS = 20
Origin = Annotated[str, Query(alias="from", max_length=1000)]
OriginField = Annotated[str, Form(alias="from", max_length=1000)]


@router.get("/alerts/{alert_id}")
def show_alert(
    visit: Reader, alert_id: str, revealed: str = "", done: str = "", origin: Origin = "", estimate: str = ""
) -> Response:
    """Show one alert with its evidence, in the view that it was opened from; `estimate` plays the ladder at once."""
    return _alert_page(visit, alert_id, revealed=revealed, done=done, origin=origin, estimate=bool(estimate))


@router.get("/alerts/{alert_id}/ladder")
def show_estimates(visit: Reader, alert_id: str, tokens: str = "") -> Response:
    """Return what each step would have done to last week's requests, as the pieces that the page waits for."""
    console = visit.console
    with console.database.read() as connection:
        alert = alerts.get(connection, alert_id)
        hit = alerts.accounts_of(connection, alert)
    cap = _cap(hit, console.traffic.figures(), tokens)
    rungs = response.estimated(console.database, Lake.of(console.settings), hit, cap)
    return console.templates.TemplateResponse(visit.request, "ladder.html", {"rungs": rungs})


@router.post("/alerts/{alert_id}/decide")
def decide(
    visit: Writer,
    alert_id: str,
    decision: Text = "",
    finding: Text = "",
    days: Text = "7",
    tokens: Text = "",
    note: Text = "",
    origin: OriginField = "",
) -> Response:
    """Close an alert by this operator's decision; what the ledger refuses is said on the page, with its remedy."""
    form = {"decision": decision, "finding": finding, "days": days, "tokens": tokens, "note": note}
    try:
        with visit.console.database.write() as connection:
            response.decide(connection, alert_id, visit.operator, form)
    except NotFound:
        raise
    except LedgerError as error:
        status = 422 if isinstance(error, InvalidValue) else 409
        return _alert_page(visit, alert_id, problem=str(error), form=form, status=status, origin=origin)
    return go(_address(alert_id, "decided", origin))


@router.post("/alerts/{alert_id}/assign")
def assign(visit: Writer, alert_id: str, to: Text = "", origin: OriginField = "", back: Text = "") -> Response:
    """Give an alert to an operator, or to nobody; `back` is `queue` for who stands there."""
    with visit.console.database.write() as connection:
        if to and to not in {person.name for person in operators.every(connection)}:
            raise NotFound(f"no operator is called {to!r}: choose one from the list")
        alerts.assign(connection, alert_id, to or None, visit.operator)
    if back == "queue":
        return go(f"{of_text(origin).address}#row-{alert_id}")
    return go(_address(alert_id, "", origin))


@router.post("/alerts/{alert_id}/undo")
def undo(visit: Writer, alert_id: str, note: Text = "", origin: OriginField = "") -> Response:
    """Take the decision about an alert back."""
    return _reopen(visit, alert_id, note, alerts.take_back, "undone", origin)


@router.post("/alerts/{alert_id}/appeal")
def appeal(visit: Writer, alert_id: str, note: Text = "", origin: OriginField = "") -> Response:
    """Note what the account says against an alert, and open it again."""
    return _reopen(visit, alert_id, note, alerts.appeal, "appealed", origin)


def _reopen(visit: Visit, alert_id: str, note: str, way: Callable[..., Alert], done: str, origin: str) -> Response:
    try:
        if not note.strip():
            raise InvalidValue("nothing was done: say why in a sentence, it is what an audit will read")
        with visit.console.database.write() as connection:
            way(connection, alert_id, visit.operator, note)
    except NotFound:
        raise
    except LedgerError as error:
        return _alert_page(visit, alert_id, problem=str(error), status=422, origin=origin)
    return go(_address(alert_id, done, origin))


@router.post("/alerts/{alert_id}/reveal")
def reveal(visit: Writer, alert_id: str, reason: Text = "", origin: OriginField = "") -> Response:
    """Open the examples to this operator for ten minutes, for a reason that the audit log keeps."""
    try:
        with visit.console.database.write() as connection:
            alert = alerts.get(connection, alert_id)
            reveal_id = reveals.ask(
                connection, visit.operator, alert.account, _place(alert_id), _examples(alert), reason
            )
    except InvalidValue as error:
        return _alert_page(visit, alert_id, reveal_problem=str(error), status=422, origin=origin)
    return go(f"{_address(alert_id, '', origin, revealed=reveal_id)}#examples")


def _address(alert_id: str, done: str, origin: str, **more: str) -> str:
    query = {"done": done, "from": of_text(origin).query, **more}
    given = urlencode({name: value for name, value in query.items() if value})
    return f"/alerts/{alert_id}" + (f"?{given}" if given else "")


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
    origin: str = "",
    estimate: bool = False,
) -> Response:
    console = visit.console
    figures = console.traffic.figures()
    view = of_text(origin)
    with console.database.read() as connection:
        alert = alerts.get(connection, alert_id)
        case = cases.build(alert, figures, enforcement.in_force(connection, [alert.account]))
        chosen = view.filter(visit.operator, looks.last(connection, visit.operator))
        place = alert_queue.place(connection, chosen, figures.rates, alert_id)
        opened = reveals.find(connection, visit.operator, alert.account, _place(alert_id), revealed)
        values = _account_facts(connection, alert) | _panel(connection, alert, figures, form)
        marks = _marks(connection, alert)
        values["next_alert"] = alerts.get(connection, place.following) if place.following else None
        values["people"] = [person.name for person in operators.every(connection)]
    if estimate and alert.state == "open":
        values["rungs"] = response.estimated(console.database, Lake.of(console.settings), values["hit"], values["cap"])
    days = _curve_days(case)
    return visit.page(
        "alert.html",
        status,
        case=case,
        alert=alert,
        view=view,
        days=days,
        tokens=[case.daily.get(day, 0) for day in days],
        marks=marks,
        share=_share(case, figures),
        examples=_example_parts(console, alert),
        reveal=opened,
        place=place,
        estimated=estimate,
        form=form or {"decision": "", "finding": "", "days": "7", "tokens": "", "note": ""},
        problem=problem,
        reveal_problem=reveal_problem,
        done=done if (done == "decided") is (alert.state != "open") else "",
        **values,
    )


def _panel(connection: Connection, alert: Alert, figures: Figures, form: dict[str, str] | None) -> dict[str, Any]:
    """Return what the panel beside the alert shows; what the steps would have done is read apart from it."""
    hit = alerts.accounts_of(connection, alert)
    values: dict[str, Any] = {"appeals": appeals.of_alert(connection, alert.id), "rungs": [], "cap": 0}
    if alert.state == "open":
        values["cap"] = _cap(hit, figures, (form or {}).get("tokens", ""))
        values["rungs"] = response.ladder(connection)
    shown = {"expiries": response.EXPIRIES, "hit": hit, "hit_in_words": response.names_in_words(hit)}
    return values | shown | {"findings": alerts.FINDINGS}


def _cap(hit: list[str], figures: Figures, tokens: str) -> int:
    typed = int(tokens) if tokens.isdecimal() and len(tokens) <= 12 else 0
    return typed or response.proposed_cap(hit, figures)


def _account_facts(connection: Connection, alert: Alert) -> dict[str, Any]:
    return {
        "uses": declared_uses.of_account(connection, alert.account),
        "consent": consents.in_force(connection, [alert.account]).get(alert.account),
        "others": [
            other for other in alerts.every(connection, account=alert.account, limit=OTHERS) if other.id != alert.id
        ],
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
    everyone = figures.total(case.first_day).teacher_tokens
    own = sum(tokens for day, tokens in case.daily.items() if day >= case.first_day)
    return own / everyone if everyone else None


def _examples(alert: Alert) -> list[str]:
    return [str(record_id) for record_id in alert.evidence.get("examples", [])][:EXAMPLES]


def _example_parts(console: Console, alert: Alert) -> list[dict[str, Any]]:
    ids = _examples(alert)
    records = console.traffic.records(ids)
    return [{"id": one, "record": records.get(one, {}), "parts": redaction.parts(records.get(one, {}))} for one in ids]


def _place(alert_id: str) -> str:
    return f"alert {alert_id}"
