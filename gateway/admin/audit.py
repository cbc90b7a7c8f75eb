"""The audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.admin.access import House
from gateway.admin.schemas import AuditEntry
from gateway.ledger import audit

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
def list_audit(
    house: House, subject: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[AuditEntry]:
    """List the newest actions first; those on one account, alert, snapshot or student where it is given."""
    with house.database.read() as connection:
        return [AuditEntry.model_validate(row) for row in audit.recent(connection, limit, subject)]
