"""Bulk decisions: one decision about many alerts, under one id, taken back as a whole.

Steps that refuse requests are left out: whoever is to be refused is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

import sqlalchemy as sa

from gateway.ledger import alerts, audit, enforcement
from gateway.ledger.alerts import Alert, Decision, Finding
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import uuid7

MOST = 200  # alerts: other writers wait until all are written
ONE_BY_ONE: tuple[Decision, ...] = ("verify", "suspend")
DECISIONS: tuple[Decision, ...] = tuple(one for one in alerts.DECISIONS if one not in ONE_BY_ONE)


def decide(
    connection: sa.Connection,
    ids: Sequence[str],
    decision: Decision,
    operator: str,
    note: str,
    finding: Finding,
    duration: timedelta = enforcement.DEFAULT_DURATION,
    tokens_per_day: int | None = None,
) -> str:
    """Decide about all of some open alerts as `alerts.decide` does, or about none; returns the bulk decision's id."""
    if decision not in DECISIONS:
        raise Forbidden(f"{decision} refuses requests, so it is decided alert by alert: choose {', '.join(DECISIONS)}")
    if finding not in get_args(Finding):
        raise InvalidValue("say what the alerts turned out to be: choose a finding")
    if not 0 < len(ids) <= MOST:
        raise InvalidValue(f"a bulk decision is about 1 to {MOST} alerts, not about {len(ids)}: narrow it down")
    batch = uuid7()
    for alert_id in ids:
        alerts.decide(connection, alert_id, decision, operator, note, duration, tokens_per_day, finding, batch)
    audit.record(connection, operator, f"bulk.{decision}", batch, after={"alerts": len(ids)}, reason=note)
    return batch


def undo(connection: sa.Connection, batch: str, operator: str, note: str) -> list[Alert]:
    """Take a bulk decision back for all alerts that still stand as it left them; returns those, open again.

    Alerts whose account has a newer open alert stay closed. `NotFound` for an unknown id.
    """
    if not note.strip():
        raise InvalidValue("nothing was done: say why in a sentence, it is what an audit will read")
    standing = of(connection, batch)
    if not standing:
        raise NotFound(f"no alert stands as bulk decision {batch!r} left it, so there is nothing to take back")
    reopened = alerts.open_about(connection, [alert.account for alert in standing])
    opened = [
        alerts.take_back(connection, alert.id, operator, note) for alert in standing if alert.account not in reopened
    ]
    audit.record(connection, operator, "bulk.undo", batch, after={"alerts": len(opened)}, reason=note)
    return opened


def of(connection: sa.Connection, batch: str) -> list[Alert]:
    """Return the alerts that stand as a bulk decision left them, newest first."""
    table = alerts.table
    query = sa.select(table).where(table.c.batch == batch).order_by(table.c.opened.desc(), table.c.id.desc())
    return [Alert(**row._mapping) for row in connection.execute(query)]
