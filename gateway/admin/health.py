"""How the house does: its processes and models as `spiritsafe up` last wrote them."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import House
from gateway.admin.schemas import Health, ProcessRow
from gateway.ledger import alerts, house_status

router = APIRouter(prefix="/health", tags=["health"])


@router.get("")
def show_health(house: House) -> Health:
    """Show each process and model with its state, and why it is not ready where it is not."""
    status = house_status.read(house.settings.data_dir)
    revision = house.database.revision()
    with house.database.read() as connection:
        waiting = alerts.count_open(connection)
    return Health(
        running=status is not None and status.running,
        pid=None if status is None else status.pid,
        time=None if status is None else status.time,
        open_alerts=waiting,
        revision=revision,
        processes=[] if status is None else [ProcessRow.model_validate(process) for process in status.processes],
    )
