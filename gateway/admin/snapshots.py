"""Training snapshots that wait for approval."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import ApprovalRow, Note, SnapshotRow
from gateway.ledger import snapshots

router = APIRouter(prefix="/snapshots", tags=["snapshots"])


@router.get("")
def list_snapshots(house: House) -> list[SnapshotRow]:
    """List all snapshots, newest first, each with its approval."""
    with house.database.read() as connection:
        rows = snapshots.every(connection)
    shown = [
        SnapshotRow.model_validate(snapshot).model_copy(
            update={"approval": None if approval is None else ApprovalRow.model_validate(approval)}
        )
        for snapshot, approval in rows
    ]
    return shown


@router.post("/{digest}/approve")
def approve_snapshot(digest: str, body: Note, house: House, actor: Actor) -> ApprovalRow:
    """Approve a snapshot by its hash (or the first eight characters of it); 403 for the one who asked for it."""
    with house.database.write() as connection:
        return ApprovalRow.model_validate(snapshots.approve(connection, digest, actor, body.note))
