"""The lines of the accounts' table, a page at a time: those with traffic by cost, then the others by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from dashboards.console.figures import Figures, Usage, usage_of
from gateway.ledger import accounts
from gateway.ledger.accounts import Account

REST = "by-name:"  # in a key: the page is beyond those with traffic
STRETCH = 2000  # names looked through for a page of accounts without traffic; then the page may be short


@dataclass(frozen=True)
class Line:
    """A line of the table: an account, and one model or all of them."""

    account: Account
    model: str | None
    role: str | None
    usage: Usage


def page(
    connection: Connection,
    figures: Figures,
    columns: Sequence[str],
    since: date | None,
    text: str,
    after: str,
    size: int,
) -> tuple[list[Line], str]:
    """Return the lines that come after a key, and the key of the page that follows, empty after the last.

    `columns` are `account`, or account, model and role: then accounts without traffic have no line. `text` is in the
    names.
    """
    lines: list[Line] = []
    if not after.startswith(REST):
        lines, more = _with_traffic(connection, figures, columns, since, text, after, size)
        if more:
            return lines, more
        after = REST
    if len(columns) > 1:
        return lines, ""
    rest, more = _without(connection, figures, since, text, after.removeprefix(REST), size - len(lines))
    return lines + rest, more


def _with_traffic(
    connection: Connection,
    figures: Figures,
    columns: Sequence[str],
    since: date | None,
    text: str,
    after: str,
    size: int,
) -> tuple[list[Line], str]:
    table = figures.ranked(*columns, since=since)
    if text:
        table = table.filter(pc.match_substring(table["account"], text, ignore_case=True))
    start = _place(table, columns, after) + 1 if after else 0
    rows = table.slice(start, size).to_pylist()
    known = accounts.named(connection, list({row["account"] for row in rows}))
    # Accounts that were erased may have rows in the lake for a while; they have no page.
    lines = [
        Line(known[row["account"]], row.get("model"), row.get("model_role"), usage_of(row))
        for row in rows
        if row["account"] in known
    ]
    return lines, _key(rows[-1], columns) if start + size < table.num_rows else ""


def _without(
    connection: Connection, figures: Figures, since: date | None, text: str, after: str, size: int
) -> tuple[list[Line], str]:
    found = accounts.names_after(connection, after, STRETCH, text)
    used = pc.is_in(pa.array(found, pa.string()), figures.sums("account", since=since)["account"])
    idle = [name for name, is_used in zip(found, used.to_pylist(), strict=True) if not is_used]
    known = accounts.named(connection, idle[:size])
    lines = [Line(known[name], None, None, Usage()) for name in idle[:size]]
    if len(idle) > size:
        return lines, REST + (idle[size - 1] if size else after)
    return lines, REST + found[-1] if len(found) == STRETCH else ""


def _key(row: dict[str, Any], columns: Sequence[str]) -> str:
    return " ".join(str(row[name] or "") for name in columns[:2])


def _place(table: pa.Table, columns: Sequence[str], key: str) -> int:
    """Return the row of a key; the one before the first where its account has gone from the table."""
    account, _, model = key.partition(" ")
    mask = pc.equal(table["account"], account)
    if len(columns) > 1:
        mask = pc.and_(mask, pc.equal(table["model"], model))
    found = pc.index(mask, True).as_py()
    return int(found)
