"""The audit log: who did what to whom, when and why."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console.visit import Reader
from dashboards.console.words import DEEDS
from gateway.ledger import audit, operators

router = APIRouter()

PAGE_SIZE = 100


@router.get("/audit")
def show(visit: Reader, q: str = "", actor: str = "", kind: str = "", before: int | None = None) -> Response:
    """Show a page of rows, the newest first, narrowed by actor, kind of action and text."""
    with visit.console.database.read() as connection:
        rows, following = audit.search(connection, q.strip(), actor, kind, before, PAGE_SIZE)
        people = [person.name for person in operators.every(connection)]
    return visit.page(
        "audit.html",
        rows=rows,
        following=following,
        before=before,
        actors=sorted({*people, *(row.actor for row in rows)} | ({actor} if actor else set())),
        kinds=sorted({action.partition(".")[0] for action in DEEDS}),
        q=q,
        actor=actor,
        kind=kind,
    )
