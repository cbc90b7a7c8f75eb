"""Declared uses: what accounts said they do in bulk, granted with a cap and an end."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import NewUse, Reason, UseRow
from gateway.ledger import declared_usage, declared_uses
from gateway.ledger.lake import Lake

router = APIRouter(prefix="/uses", tags=["accounts"])


@router.get("")
def list_uses(house: House, account: str | None = None) -> list[UseRow]:
    """List declared uses with what was used of them; of one account where it is given."""
    with house.database.read() as connection:
        by_account = declared_uses.every(connection)
    found = [use for name in sorted(by_account) if account in (name, None) for use in by_account[name]]
    used = declared_usage.of_uses(Lake.of(house.settings), found)
    return [UseRow.model_validate(use).model_copy(update=vars(used[use.id])) for use in found]


@router.post("", status_code=201)
def grant_use(body: NewUse, house: House, actor: Actor) -> UseRow:
    """Grant a use that an account declared; this answers a verification that it was asked for."""
    with house.database.write() as connection:
        row = declared_uses.declare(connection, body.account, body.use, actor, body.cap_per_day, body.until)
    return UseRow.model_validate(row)


@router.post("/{use_id}/revoke")
def revoke_use(use_id: str, body: Reason, house: House, actor: Actor) -> UseRow:
    """End a declared use now."""
    with house.database.write() as connection:
        return UseRow.model_validate(declared_uses.revoke(connection, use_id, actor, body.note))
