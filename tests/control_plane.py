"""An empty control plane of a test's own: a copy of one that is migrated once a process, because migrating is slow."""

from __future__ import annotations

import functools
import tempfile
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from gateway.ledger import enforcement
from gateway.ledger.database import Database, open_database


def fresh(url: str) -> Database:
    """Open the control plane at an URL; where there is no SQLite file, an empty one."""
    parsed = sa.make_url(url)
    path = Path(parsed.database or "")
    if parsed.get_backend_name() == "sqlite" and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated())
    return open_database(url)


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        open_database(f"sqlite:///{folder}/control.sqlite").close()
        return Path(folder, "control.sqlite").read_bytes()


def impose(
    connection: sa.Connection,
    account: str,
    action: enforcement.Action,
    operator: str,
    note: str,
    duration: timedelta = enforcement.DEFAULT_DURATION,
    alert: str | None = None,
) -> enforcement.Enforcement:
    """Take a step against one account, at once (`verify`: after its notice)."""
    step = enforcement.Step(action, duration)
    return enforcement.take(connection, [account], step, operator, note, alert)[0]
