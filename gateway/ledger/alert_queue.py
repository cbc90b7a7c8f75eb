"""The queue of alerts: filtered, ordered and cut into pages by the database, whatever there is of them.

First comes what leaked in the last 24 hours × the score, where nothing is in force that stops it; then the severity,
then the newest. What was raised about a canary is left out. `rates` are the teacher's tokens of the last 24 hours by
account, as a JSON object in text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger import alerts, enforcement
from gateway.ledger.alerts import SEVERITIES, Alert
from gateway.ledger.engines import contains
from gateway.ledger.identifiers import now

NOBODY = "-"  # as an assignee: alerts that nobody has
STOPPING = ("divert", "cap", "verify", "suspend")  # what is in force so that nothing leaks on as before
NO_RATES = "{}"
KEY = ("weight", "rank", "opened", "id")  # what the queue is in the order of, each from the greatest on
_table = alerts.table


@dataclass(frozen=True)
class Filter:
    """Which alerts; an empty field leaves out none. `text` is in the account's name or in the reasons.

    `since` keeps those opened later, `assignee` those that an operator has (`NOBODY`: that nobody has).
    """

    state: str = ""
    severity: str = ""
    text: str = ""
    assignee: str = ""
    finding: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Page:
    """Some alerts in the queue's order; `more` when others come after them. `total` are all that the filter chooses."""

    alerts: list[Alert]
    more: bool
    total: int


@dataclass(frozen=True)
class Place:
    """Where an alert stands: its `number` from 1 on, None outside of the filter; `following` is the next one's id.

    After the last one follows the first; None where there is no other.
    """

    number: int | None
    following: str | None
    total: int


def page(connection: sa.Connection, chosen: Filter, rates: str = NO_RATES, after: str = "", limit: int = 50) -> Page:
    """Return the first alerts, or those that come after one of them, which may have left the filter meanwhile."""
    ranked = _ranked(connection, chosen, rates)
    if chosen.text:
        ranked = _kept(ranked)
        size = _size(ranked)
    else:  # what the filter chooses is counted from an index
        size = sa.select(sa.func.count()).select_from(_table).where(*_conditions(connection, chosen)).scalar_subquery()
    query = sa.select(ranked.c.id, size).order_by(*_order(ranked)).limit(limit + 1)
    if after:
        query = query.where(_tuple(ranked) < _key(connection, chosen, rates, after))
    rows = connection.execute(query).all()
    found = alerts.named(connection, [row[0] for row in rows[:limit]])
    return Page(found, len(rows) > limit, rows[0][1] if rows else 0)


def place(connection: sa.Connection, chosen: Filter, rates: str, alert_id: str) -> Place:
    """Return where an alert stands, all in one reading of the queue."""
    ranked = _kept(_ranked(connection, chosen, rates))
    mine = _key(connection, chosen, rates, alert_id)
    others = sa.select(ranked.c.id).where(ranked.c.id != alert_id).order_by(*_order(ranked)).limit(1)
    inside = sa.select(sa.func.count()).select_from(ranked).where(ranked.c.id == alert_id).scalar_subquery()
    query = sa.select(
        inside,
        sa.select(sa.func.count()).select_from(ranked).where(_tuple(ranked) > mine).scalar_subquery(),
        sa.func.coalesce(others.where(_tuple(ranked) < mine).scalar_subquery(), others.scalar_subquery()),
        _size(ranked),
    )
    found, ahead, following, total = connection.execute(query).one()
    return Place(ahead + 1 if found else None, following, total)


def ids(connection: sa.Connection, chosen: Filter, limit: int) -> list[str]:
    """Return the ids of the alerts chosen, oldest first."""
    query = sa.select(_table.c.id).where(*_conditions(connection, chosen)).order_by(_table.c.opened, _table.c.id)
    return list(connection.execute(query.limit(limit)).scalars())


def count(connection: sa.Connection, chosen: Filter) -> int:
    """Return how many alerts are chosen."""
    query = sa.select(sa.func.count()).select_from(_table).where(*_conditions(connection, chosen))
    return int(connection.execute(query).scalar_one())


def leaking(connection: sa.Connection, rates: str) -> int:
    """Return the teacher's tokens that the accounts of open alerts drew in 24 hours, where nothing stops them."""
    flow = _flow(connection, rates)
    joined = flow.join(_table, _table.c.account == flow.c.account)
    query = sa.select(sa.func.coalesce(sa.func.sum(flow.c.rate), 0)).select_from(joined)
    return int(connection.execute(query.where(*_conditions(connection, Filter("open")))).scalar_one())


def _ranked(connection: sa.Connection, chosen: Filter, rates: str, *more: sa.ColumnElement[bool]) -> sa.CTE:
    flow = _flow(connection, rates)
    weight = sa.func.coalesce(flow.c.rate, 0) * _table.c.score
    rank = sa.case({name: order for order, name in enumerate(SEVERITIES)}, value=_table.c.severity)
    # As the integer that it is stored as, so that it compares with itself.
    opened = sa.type_coerce(_table.c.opened, sa.BigInteger)
    columns = (_table.c.id, weight.label("weight"), rank.label("rank"), opened.label("opened"))
    joined = _table.outerjoin(flow, flow.c.account == _table.c.account)
    return sa.select(*columns).select_from(joined).where(*_conditions(connection, chosen), *more).cte("ranked")


def _kept(ranked: sa.CTE) -> sa.CTE:
    """Have it read once, however often a query refers to it: looking for words reads every alert."""
    return ranked.prefix_with("MATERIALIZED")


def _size(ranked: sa.CTE) -> Any:
    return sa.select(sa.func.count()).select_from(ranked).scalar_subquery()


def _order(ranked: sa.CTE) -> list[sa.ColumnElement[Any]]:
    return [ranked.c[name].desc() for name in KEY]


def _key(connection: sa.Connection, chosen: Filter, rates: str, alert_id: str) -> Any:
    ranked = _ranked(connection, chosen, rates, _table.c.id == alert_id)
    row = connection.execute(sa.select(*(ranked.c[name] for name in KEY))).one_or_none()
    return sa.tuple_(*(_former_key(connection, rates, alert_id) if row is None else row))


def _former_key(connection: sa.Connection, rates: str, alert_id: str) -> tuple[float, int, int, str]:
    """Return where an alert that has left the filter stood: as if nothing stopped it, as the decision may since do."""
    opened = sa.type_coerce(_table.c.opened, sa.BigInteger)
    query = sa.select(_table.c.account, _table.c.score, _table.c.severity, opened).where(_table.c.id == alert_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return 0.0, -1, 0, ""
    account, score, severity, moment = row
    return json.loads(rates).get(account, 0) * score, SEVERITIES.index(severity), moment, alert_id


def _tuple(ranked: sa.CTE) -> Any:
    return sa.tuple_(*(ranked.c[name] for name in KEY))


def _flow(connection: sa.Connection, rates: str) -> sa.CTE:
    """Return the rates as a table, without the accounts against which something is in force that stops them."""
    if connection.dialect.name == "postgresql":
        pairs: Any = sa.func.json_each_text(sa.cast(sa.literal(rates, sa.Text), sa.JSON)).table_valued("key", "value")
    else:
        pairs = sa.func.json_each(rates).table_valued("key", "value")
    measures = enforcement.table
    stopped = sa.select(measures.c.account).where(
        measures.c.cleared.is_(None), measures.c.until > now(), measures.c.action.in_(STOPPING)
    )
    rate = sa.cast(pairs.c.value, sa.BigInteger).label("rate")
    flow = sa.select(pairs.c.key.label("account"), rate).where(pairs.c.key.not_in(stopped)).cte("flow")
    # Read once and kept with an index of its own, not once for every alert.
    return flow.prefix_with("MATERIALIZED")


def _conditions(connection: sa.Connection, chosen: Filter) -> list[sa.ColumnElement[bool]]:
    equal = (("state", chosen.state), ("severity", chosen.severity), ("finding", chosen.finding))
    found = [alerts.is_of_people(connection), *(_table.c[name] == value for name, value in equal if value)]
    if chosen.assignee:
        found.append(_table.c.assignee.is_(None) if chosen.assignee == NOBODY else _table.c.assignee == chosen.assignee)
    if chosen.since is not None:
        found.append(_table.c.opened > chosen.since)
    if chosen.text.strip():
        found.append(_says(connection, chosen.text.strip()))
    return found


def _says(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    # Among the words as they are stored: taking each document apart would cost ten times as much.
    stored = json.dumps(text)[1:-1]
    reasons = sa.type_coerce(_table.c.reasons, sa.Text)
    return sa.or_(contains(connection, _table.c.account, text), contains(connection, reasons, stored))
