"""Policies: which alerts put a mild step in force at once; written, played over the past, switched on and off."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console.response import TITLES
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import dry_runs, policies
from gateway.ledger.enforcement import AUTOMATIC, Action
from gateway.ledger.errors import InvalidValue, LedgerError
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.ledger.policies import SEVERITIES, Severity

router = APIRouter()

RUN_DAYS = 14
SHOWN = 100
FORM = {"name": "", "action": "strip", "severity": "high", "leaked": "", "days": "7", "within": "6", "note": ""}
DAYS = ("1", "3", "7", "30")
HOURS = ("0", "1", "6", "24")


@router.get("/policies")
def show_policies(visit: Reader, run: str = "") -> Response:
    """Show all policies; with `run`, whom that one would have hit in the last fourteen days."""
    return _page(visit, run=run)


@router.post("/policies")
def create(
    visit: Writer,
    name: Text = "",
    action: Text = "strip",
    severity: Text = "high",
    leaked: Text = "",
    days: Text = "7",
    within: Text = "6",
    note: Text = "",
) -> Response:
    """Write a policy down, switched off; what the ledger refuses is said on the page, with its remedy."""
    form = {"name": name, "action": action, "severity": severity, "leaked": leaked, "days": days, "within": within}
    form["note"] = note
    try:
        _create(visit, form)
    except LedgerError as error:
        return _page(visit, problem=str(error), form=form, status=422)
    return go(f"/policies?run={quote(name)}")


@router.post("/policies/{name}/switch")
def switch(visit: Writer, name: str, on: Text = "", note: Text = "") -> Response:
    """Switch a policy on or off, with the reason that an audit will read."""
    try:
        with visit.console.database.write() as connection:
            policies.switch(connection, name, on == "1", visit.operator, note)
    except LedgerError as error:
        return _page(visit, problem=str(error), status=422)
    return go("/policies")


def _create(visit: Visit, form: dict[str, str]) -> None:
    leaked = form["leaked"].strip()
    if leaked and not (leaked.isdecimal() and len(leaked) < 16):
        raise InvalidValue("leaked tokens must be a whole number, or empty for any")
    if form["days"] not in DAYS or form["within"] not in HOURS:
        raise InvalidValue("choose how long the step holds, and within what time it begins, from the lists")
    with visit.console.database.write() as connection:
        policies.create(
            connection,
            form["name"],
            cast(Action, form["action"]),
            visit.operator,
            form["note"],
            severity=cast(Severity, form["severity"]),
            leaked_tokens=int(leaked) if leaked else None,
            duration=timedelta(days=int(form["days"])),
            spread=timedelta(hours=int(form["within"])),
        )


def _page(
    visit: Visit, *, run: str = "", problem: str = "", form: dict[str, str] | None = None, status: int = 200
) -> Response:
    console = visit.console
    values: dict[str, Any] = {"played": None, "hits": []}
    with console.database.read() as connection:
        rows = policies.every(connection)
        values["played"] = policies.get(connection, run) if run else None
    if values["played"]:
        since = now() - timedelta(days=RUN_DAYS)
        values["hits"] = dry_runs.of_policy(console.database, Lake.of(console.settings), values["played"], since)
    return visit.page(
        "policies.html",
        status,
        policies=rows,
        titles={action: TITLES[action] for action in AUTOMATIC},
        severities=tuple(reversed(SEVERITIES)),
        days=DAYS,
        hours=HOURS,
        run_days=RUN_DAYS,
        shown=SHOWN,
        most=dry_runs.MOST_HITS,
        problem=problem,
        form=form or FORM,
        **values,
    )
