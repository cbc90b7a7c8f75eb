"""The queue: what waits for a decision, the most pressing first; views of it, and what is new in it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console import cases, house
from dashboards.console.view import FIRST, Chosen, View, of_text
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import alert_queue, alerts, enforcement, looks, operators, saved_views
from gateway.ledger.alert_queue import Filter
from gateway.ledger.errors import InvalidValue

router = APIRouter()

PAGE_SIZE = 50


@router.get("/")
def show_queue(visit: Reader, view: Chosen, after: str = "") -> Response:
    """Show a page of the alerts that a view chooses; `after` is the last alert of the page before."""
    return _queue_page(visit, view, after)


@router.post("/looked")
def look(visit: Writer, query: Text = "") -> Response:
    """Note that this operator has seen the queue: what comes from now on is new."""
    with visit.console.database.write(announce=False) as connection:
        looks.note(connection, visit.operator)
    return go(of_text(query).but(new="").address)


@router.post("/views")
def save_view(visit: Writer, name: Text = "", query: Text = "") -> Response:
    """Keep a view under a name, for this operator."""
    view = of_text(query)
    try:
        with visit.console.database.write(announce=False) as connection:
            saved_views.save(connection, visit.operator, name, view.query)
    except InvalidValue as error:
        return _queue_page(visit, view, problem=str(error), status=422)
    return go(view.address)


@router.post("/views/remove")
def remove_view(visit: Writer, name: Text = "") -> Response:
    """Forget one of this operator's views."""
    with visit.console.database.write(announce=False) as connection:
        saved_views.remove(connection, visit.operator, name)
    return go("/")


def _queue_page(visit: Visit, view: View, after: str = "", *, problem: str = "", status: int = 200) -> Response:
    console = visit.console
    figures = console.traffic.figures()
    with console.database.read() as connection:
        looked = looks.last(connection, visit.operator)
        chosen = view.filter(visit.operator, looked)
        page = alert_queue.page(connection, chosen, figures.rates, after, PAGE_SIZE)
        measures = enforcement.in_force(connection, [alert.account for alert in page.alerts])
        leaking = alert_queue.leaking(connection, figures.rates)
        counts = alerts.counts(connection)
        closed = alerts.last_decided(connection)
        values = {
            "looked": looked,
            "fresh": 0 if looked is None else alert_queue.count(connection, Filter("open", since=looked)),
            "views": saved_views.of_operator(connection, visit.operator),
            "people": [person.name for person in operators.every(connection)],
        }
    return visit.page(
        "queue.html",
        status,
        queue=[cases.build(alert, figures, measures) for alert in page.alerts],
        more=page.more,
        matching=page.total,
        after=after,
        counts=counts | {"all": sum(counts.values())},
        view=view,
        first=FIRST,
        severities=tuple(reversed(alerts.SEVERITIES)),
        findings=alerts.FINDINGS,
        leaking=leaking,
        leaking_cost=leaking * console.settings.teacher.nano_prices[1],
        quiet={"closed": closed, "requests": figures.total(closed.date() if closed else None).requests},
        detector=house.detector(console.settings.data_dir),
        problem=problem,
        **values,
    )
