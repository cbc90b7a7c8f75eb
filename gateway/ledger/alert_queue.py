"""The queue of alerts: filtered, ordered and cut into pages by the database, whatever there is of them.

First comes what leaked in the last 24 hours × the score, where nothing is in force that stops it; then the severity,
then the newest. `rates` are the teacher's tokens of the last 24 hours by account, as a JSON object in text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger import alerts, enforcement
from gateway.ledger.alerts import SEVERITIES, Alert
from gateway.ledger.identifiers import now

NOBODY = "-"  # as an assignee: alerts that nobody has
STOPPING = ("divert", "cap", "verify", "suspend")  # what is in force so that nothing leaks on as before
NO_RATES = "{}"
_table = alerts.table


@dataclass(frozen=True)
class Filter:
    """Which alerts; an empty field leaves out none. `text` is in the account's name or a reason's words.

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
    """Some alerts in the queue's order; `more` when others come after them."""

    alerts: list[Alert]
    more: bool


def page(connection: sa.Connection, chosen: Filter, rates: str = NO_RATES, after: str = "", limit: int = 50) -> Page:
    """Return the first alerts, or those that come after one of them, which may have left the filter meanwhile."""
    ids = _ids(connection, chosen, rates, after, limit + 1)
    return Page(alerts.named(connection, ids[:limit]), len(ids) > limit)


def place(connection: sa.Connection, chosen: Filter, rates: str, alert_id: str) -> tuple[int | None, str | None]:
    """Return an alert's place in the queue, None outside of it, and the next one's id, after the last the first's."""
    before = _ranked(connection, chosen, rates)
    mine = _key(connection, rates, alert_id)
    ahead = sa.select(sa.func.count()).select_from(before).where(_tuple(before) > mine)
    inside = sa.select(before.c.id).where(before.c.id == alert_id)
    found = connection.execute(inside).first() is not None
    position = int(connection.execute(ahead).scalar_one()) + 1 if found else None
    after = _ids(connection, chosen, rates, alert_id, 1) or _ids(connection, chosen, rates, "", 1)
    return position, next((one for one in after if one != alert_id), None)


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
    return int(connection.execute(query.where(_table.c.state == "open")).scalar_one())


def _ids(connection: sa.Connection, chosen: Filter, rates: str, after: str, limit: int) -> list[str]:
    ranked = _ranked(connection, chosen, rates)
    order = [ranked.c[name].desc() for name in ("weight", "rank", "opened", "id")]
    query = sa.select(ranked.c.id).order_by(*order).limit(limit)
    if after:
        query = query.where(_tuple(ranked) < _key(connection, rates, after))
    return list(connection.execute(query).scalars())


def _ranked(connection: sa.Connection, chosen: Filter, rates: str, *more: sa.ColumnElement[bool]) -> sa.Subquery:
    flow = _flow(connection, rates)
    weight = sa.func.coalesce(flow.c.rate, 0) * _table.c.score
    rank = sa.case({name: order for order, name in enumerate(SEVERITIES)}, value=_table.c.severity)
    # As the integer that it is stored as, so that it compares with itself.
    opened = sa.type_coerce(_table.c.opened, sa.BigInteger)
    columns = (_table.c.id, weight.label("weight"), rank.label("rank"), opened.label("opened"))
    joined = _table.outerjoin(flow, flow.c.account == _table.c.account)
    return sa.select(*columns).select_from(joined).where(*_conditions(connection, chosen), *more).subquery()


def _key(connection: sa.Connection, rates: str, alert_id: str) -> Any:
    ranked = _ranked(connection, Filter(), rates, _table.c.id == alert_id)
    row = connection.execute(sa.select(*(ranked.c[name] for name in ("weight", "rank", "opened", "id")))).one_or_none()
    return sa.tuple_(*(row if row is not None else (0.0, -1, 0, "")))


def _tuple(ranked: sa.Subquery) -> Any:
    return sa.tuple_(*(ranked.c[name] for name in ("weight", "rank", "opened", "id")))


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
    found: list[sa.ColumnElement[bool]] = [_table.c[name] == value for name, value in equal if value]
    if chosen.assignee:
        found.append(_table.c.assignee.is_(None) if chosen.assignee == NOBODY else _table.c.assignee == chosen.assignee)
    if chosen.since is not None:
        found.append(_table.c.opened > chosen.since)
    if chosen.text.strip():
        found.append(_says(connection, chosen.text.strip()))
    return found


def _says(connection: sa.Connection, text: str) -> sa.ColumnElement[bool]:
    reasons = sa.type_coerce(_table.c.reasons, sa.Text)
    if connection.dialect.name == "postgresql":
        one: Any = sa.func.json_array_elements(sa.cast(reasons, sa.JSON)).table_valued("value")
        words = sa.func.json_extract_path_text(sa.cast(one.c.value, sa.JSON), "text")
    else:
        one = sa.func.json_each(reasons).table_valued("value")
        words = sa.func.json_extract(one.c.value, "$.text")
    said = sa.select(sa.literal(1)).select_from(one).where(words.icontains(text, autoescape=True)).exists()
    # Few have the text at all, as it is stored; only of these the document is read.
    stored = reasons.icontains(json.dumps(text)[1:-1], autoescape=True)
    return sa.or_(_table.c.account.icontains(text, autoescape=True), sa.and_(stored, said))
