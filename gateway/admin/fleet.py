"""The models' servers: how they do, and taking one out for a while."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import BackendRow, DrainChange, DrainState
from gateway.fleet import listing
from gateway.ledger import drains, registry
from gateway.settings import root_of

router = APIRouter(prefix="/fleet", tags=["fleet"])


@router.get("")
def list_backends(house: House) -> list[BackendRow]:
    """List every backend of every model with its work, as the workers told a second ago."""
    with house.database.read() as connection:
        students = registry.in_state(connection, *registry.SERVED)
        found = listing.rows(house.settings, students, drains.every(connection))
    return [BackendRow.model_validate(row) for row in found]


@router.post("/drain")
def drain_backend(body: DrainChange, house: House, actor: Actor) -> DrainState:
    """Send a backend no new requests, or (with `undo`) send them again."""
    root = root_of(body.url)
    with house.database.write() as connection:
        if body.undo:
            drains.end(connection, root, actor, body.note)
        else:
            listing.check_known(root, house.settings, registry.in_state(connection, *registry.SERVED))
            drains.begin(connection, root, actor, body.note)
    return DrainState(url=root, drained=not body.undo)
