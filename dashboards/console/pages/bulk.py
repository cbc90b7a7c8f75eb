"""One decision about all alerts of a view: who it is about, counted before and after, and its undoing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console.response import EXPIRIES, TITLES
from dashboards.console.view import Chosen, View, of_text
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import alert_queue, alerts, audit, bulk, looks
from gateway.ledger.alerts import Alert, Finding
from gateway.ledger.errors import Forbidden, InvalidValue, LedgerError, NotFound

router = APIRouter()

SHOWN = 20
FORM = {"decision": "", "finding": "", "days": "7", "tokens": "", "note": ""}


@router.get("/bulk")
def show_bulk(visit: Reader, view: Chosen) -> Response:
    """Show whom a decision about all open alerts of a view would be about."""
    return _bulk_page(visit, view)


@router.post("/bulk")
def decide(
    visit: Writer,
    query: Text = "",
    chosen: Text = "",
    decision: Text = "",
    finding: Text = "",
    days: Text = "7",
    tokens: Text = "",
    note: Text = "",
) -> Response:
    """Decide about exactly the alerts that the page showed; where they have changed since, about none."""
    view = of_text(query)
    form = {"decision": decision, "finding": finding, "days": days, "tokens": tokens, "note": note}
    try:
        with visit.console.database.write() as connection:
            ids = _ids(connection, visit, view)
            if _digest(ids) != chosen:
                raise InvalidValue(
                    "nothing was decided: the alerts of this view have changed since; look at them again"
                )
            batch = _decide(connection, ids, visit.operator, form)
    except LedgerError as error:
        status = 422 if isinstance(error, InvalidValue) else 409
        return _bulk_page(visit, view, form=form, problem=str(error), status=status)
    return go(f"/bulk/{batch}?from={quote(view.query)}")


@router.post("/bulk/assign")
def assign(visit: Writer, query: Text = "", chosen: Text = "") -> Response:
    """Give all alerts that the page showed to this operator."""
    view = of_text(query)
    try:
        with visit.console.database.write() as connection:
            ids = _ids(connection, visit, view)
            if _digest(ids) != chosen or len(ids) > bulk.MOST:
                raise InvalidValue("nothing was assigned: the alerts of this view have changed since, or are too many")
            for alert_id in ids:
                alerts.assign(connection, alert_id, visit.operator, visit.operator)
    except LedgerError as error:
        return _bulk_page(visit, view, problem=str(error), status=422)
    return go(view.but(who="mine").address)


@router.get("/bulk/{batch}")
def show_done(visit: Reader, batch: str, undone: str = "") -> Response:
    """Show a bulk decision that was taken, and how many alerts still stand as it left them."""
    return _done_page(visit, batch, undone=undone)


@router.post("/bulk/{batch}/undo")
def undo(visit: Writer, batch: str, note: Text = "") -> Response:
    """Take a bulk decision back, all of it."""
    try:
        with visit.console.database.write() as connection:
            opened = bulk.undo(connection, batch, visit.operator, note)
    except (InvalidValue, Forbidden, NotFound) as error:
        return _done_page(visit, batch, problem=str(error), status=422)
    return go(f"/bulk/{batch}?undone={len(opened)}")


def _decide(connection: Any, ids: Sequence[str], operator: str, form: dict[str, str]) -> str:
    if form["days"] not in map(str, EXPIRIES):
        raise InvalidValue(f"nothing was decided: choose an expiry of {', '.join(map(str, EXPIRIES))} days")
    tokens = None
    if form["decision"] == "cap":
        if not form["tokens"].isdecimal() or len(form["tokens"]) > 12:
            raise InvalidValue("nothing was decided: give a cap in whole teacher tokens a day")
        tokens = int(form["tokens"])
    if form["decision"] not in alerts.DECISIONS:
        raise InvalidValue("nothing was decided: choose dismiss or a step first")
    finding = cast(Finding, form["finding"])
    duration = timedelta(days=int(form["days"]))
    return bulk.decide(connection, ids, form["decision"], operator, form["note"], finding, duration, tokens)


def _ids(connection: Any, visit: Visit, view: View) -> list[str]:
    chosen = view.but(state="open", finding="").filter(visit.operator, looks.last(connection, visit.operator))
    return alert_queue.ids(connection, chosen, bulk.MOST + 1)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()


def _bulk_page(
    visit: Visit, view: View, *, form: dict[str, str] | None = None, problem: str = "", status: int = 200
) -> Response:
    view = view.but(state="open", finding="")
    with visit.console.database.read() as connection:
        ids = _ids(connection, visit, view)
        looked = looks.last(connection, visit.operator)
        count = alert_queue.count(connection, view.filter(visit.operator, looked))
        found = alerts.named(connection, ids)
    return visit.page(
        "bulk.html",
        status,
        view=view,
        count=count,
        most=bulk.MOST,
        chosen=_digest(ids),
        shown=found[-SHOWN:][::-1],
        accounts=len({name for alert in found for name in alert.accounts}),
        by_severity=_by_severity(found),
        steps={name: "Dismiss" if name == "dismiss" else TITLES[name] for name in bulk.DECISIONS},
        findings=alerts.FINDINGS,
        expiries=EXPIRIES,
        form=form or FORM,
        problem=problem,
    )


def _done_page(visit: Visit, batch: str, *, undone: str = "", problem: str = "", status: int = 200) -> Response:
    with visit.console.database.read() as connection:
        rows = audit.recent(connection, limit=10, subject=batch)
        if not any(row.action.startswith("bulk.") for row in rows):
            raise NotFound(f"no bulk decision has the id {batch!r}: the audit log names those there were")
        standing = bulk.of(connection, batch)
    return visit.page(
        "bulk_done.html",
        status,
        batch=batch,
        rows=rows,
        standing=standing,
        shown=standing[:SHOWN],
        undone=int(undone) if undone.isdecimal() else None,
        problem=problem,
    )


def _by_severity(found: Sequence[Alert]) -> list[tuple[str, int]]:
    counts = [(level, sum(alert.severity == level for alert in found)) for level in reversed(alerts.SEVERITIES)]
    return [(level, count) for level, count in counts if count]
