"""The audit log: who did what to whom, when and why."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console.visit import Reader
from gateway.ledger import audit
from gateway.ledger.audit import AuditRow

router = APIRouter()

STEP = 200
MOST = 5000


@router.get("/audit")
def show(visit: Reader, q: str = "", actor: str = "", kind: str = "", limit: int = STEP) -> Response:
    """Show the newest rows, narrowed by actor, kind of action and text."""
    limit = max(STEP, min(limit, MOST))
    with visit.console.database.read() as connection:
        rows = audit.recent(connection, limit=limit)
    return visit.page(
        "audit.html",
        rows=[row for row in rows if _matches(row, q.strip().lower(), actor, kind)],
        actors=sorted({row.actor for row in rows}),
        kinds=sorted({row.action.partition(".")[0] for row in rows}),
        q=q,
        actor=actor,
        kind=kind,
        limit=limit,
        more=min(limit + STEP * 4, MOST) if len(rows) == limit and limit < MOST else None,
    )


def _matches(row: AuditRow, text: str, actor: str, kind: str) -> bool:
    said = [*row.detail.values(), *(row.before or {}).values(), *(row.after or {}).values(), row.reason or ""]
    haystack = " ".join([row.actor, row.action, row.subject, *map(str, said)]).lower()
    return text in haystack and actor in (row.actor, "") and kind in (row.action.partition(".")[0], "")
