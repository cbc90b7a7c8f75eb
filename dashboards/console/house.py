"""Which parts of the house run, as `spiritsafe up` last wrote it down; nothing where parts are run one by one."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger import house_status
from gateway.ledger.house_status import ProcessStatus


def servers(data_dir: Path) -> dict[str, ProcessStatus]:
    """Return the model servers by the name that they serve."""
    return {process.name: process for process in _processes(data_dir) if process.kind == "model"}


def detector(data_dir: Path) -> ProcessStatus | None:
    """Return the detector's process, None where no house keeps one."""
    return next((process for process in _processes(data_dir) if process.name == "detector"), None)


def _processes(data_dir: Path) -> tuple[ProcessStatus, ...]:
    status = house_status.read(data_dir)
    return status.processes if status is not None and status.running else ()
