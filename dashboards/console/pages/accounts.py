"""Accounts: what they use, what it costs and saves, what is in force against them, and what they agreed to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console import listing
from dashboards.console.figures import Cell, Figures, days_back, grouped, total
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import accounts, alerts, audit, consents, declared_uses, enforcement, keys
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import now

router = APIRouter()

PERIODS = {"7": "7 days", "30": "30 days", "all": "all time"}
PAGE_SIZE = 100
MOST_ALERTS = 50
CURVE_DAYS = 28


@router.get("/accounts")
def show_all(visit: Reader, period: str = "30", by: str = "account", q: str = "", after: str = "") -> Response:
    """Show usage by account, or by account and model, the costliest first; then accounts without traffic, by name.

    `after` is the last line of the page before.
    """
    figures = visit.console.traffic.figures()
    since, text = first_day(period), q.strip()
    columns = ("account", "model", "model_role") if by == "model" else ("account",)
    with visit.console.database.read() as connection:
        lines, following = listing.page(connection, figures, columns, since, text, after, PAGE_SIZE)
        names = list({line.account.name for line in lines})
        values: dict[str, Any] = {
            "measures": enforcement.in_force(connection, names),
            "consented": consents.in_force(connection, names),
            "waiting": alerts.open_about(connection, names),
            "count": accounts.count(connection),
        }
    return visit.page(
        "accounts.html",
        lines=lines,
        following=following,
        after=after,
        total=figures.total(since),
        period=period if period in PERIODS else "all",
        periods=PERIODS,
        by=by,
        q=q,
        **values,
    )


@router.get("/accounts/{name:path}")
def show_one(visit: Reader, name: str, cleared: bool = False) -> Response:
    """Show one account."""
    return _account_page(visit, name, done=cleared)


@router.post("/accounts/{name:path}/clear")
def clear(visit: Writer, name: str, note: Text = "") -> Response:
    """End the measure in force against an account."""
    try:
        if not note.strip():
            raise InvalidValue("nothing was cleared: say why in a sentence, it is what an audit will read")
        with visit.console.database.write() as connection:
            enforcement.clear(connection, name, visit.operator, note.strip())
    except InvalidValue as error:
        return _account_page(visit, name, problem=str(error), status=422)
    return go(f"/accounts/{quote(name)}?cleared=1")


def first_day(period: str) -> date | None:
    """Return the first day of a period of that many days; None for all time."""
    return now().date() - timedelta(days=int(period) - 1) if period in PERIODS and period != "all" else None


def _account_page(visit: Visit, name: str, *, problem: str = "", done: bool = False, status: int = 200) -> Response:
    figures = visit.console.traffic.figures()
    cells = figures.of(name)
    by_model = grouped(cells, lambda cell: (cell.model, cell.role))
    by_day = grouped(cells, lambda cell: cell.day)
    days = days_back(CURVE_DAYS)
    with visit.console.database.read() as connection:
        account = accounts.get(connection, name)
        values = {
            "measure": enforcement.in_force(connection, [name]).get(name),
            "measures": enforcement.history(connection, name),
            "alerts": alerts.every(connection, account=name, limit=MOST_ALERTS),
            "keys": keys.every(connection, name),
            "uses": declared_uses.of_account(connection, name),
            "consent": consents.in_force(connection, [name]).get(name),
            "history": audit.recent(connection, limit=20, subject=name),
        }
    return visit.page(
        "account.html",
        status,
        account=account,
        by_model=sorted(by_model.items(), key=lambda item: -item[1].requests),
        total=total(cells),
        share=_share(cells, figures),
        days=days,
        requests=[by_day[day].requests if day in by_day else 0 for day in days],
        problem=problem,
        done=done,
        now=now(),
        **values,
    )


def _share(cells: Sequence[Cell], figures: Figures) -> float | None:
    everyone = figures.total().cost
    return total(cells).cost / everyone if everyone else None
