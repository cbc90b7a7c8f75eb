"""Retention: how long texts and rows are kept, by account, model and field, and the step that keeps to it.

A row's age counts from the request's own time, and from its arrival where a wrong clock dated it later than that. For
each field the closest word holds: what is set for the account and
the model, for the account, for the model (`[[retention.models]]`), in general (`[retention]`). Nothing of an account
on legal hold goes. Texts go before rows: the row, its figures and its fingerprint stay for as long as `rows_days`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from gateway.ledger import accounts, audit, holds, rewriting
from gateway.ledger.blanking import blank
from gateway.ledger.configuration import GeneralRetention, RetentionSettings
from gateway.ledger.database import Database, UtcTime, metadata
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import from_rfc3339, now
from gateway.ledger.lake import Lake, millisecond

ANY = ""  # the `model` of what is set for all of an account's models
WIRE = "wire"  # request and answer as they came, in the spool only
TEXTS = ("messages", "prompt", "response")
# What of `extra` lets a caller find its request again; anything else there may quote it.
_KEPT_EXTRA = ("request_id", "traceparent")
_KEPT_ITEM = rf'"({"|".join(_KEPT_EXTRA)})":"(\\.|[^"\\])*"'
_ONLY_FOUND_AGAIN = rf"^\{{{_KEPT_ITEM}(,{_KEPT_ITEM})*\}}$"

table = sa.Table(
    "retention",
    metadata,
    sa.Column("account", sa.String, sa.ForeignKey("accounts.name"), primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("text_days", sa.Integer),
    sa.Column("rows_days", sa.Integer),
    sa.Column("updated", UtcTime, nullable=False),
)


@dataclass(frozen=True)
class Retention:
    """What is set for an account, and a model of it where one is named. None: not set, 0: no end."""

    account: str
    model: str
    text_days: int | None
    rows_days: int | None
    updated: datetime


@dataclass(frozen=True)
class Days:
    """How many days what is kept; None: no end."""

    text: int | None
    rows: int | None


@dataclass(frozen=True)
class Kept:
    """What the step did: rows whose texts went, rows that went, files that were unlinked."""

    texts: int
    rows: int
    files: int


def assign(
    connection: sa.Connection, account: str, model: str, text_days: int | None, rows_days: int | None, actor: str
) -> Retention:
    """Set how long an account's texts and rows are kept, replacing what was set; None takes a field back."""
    accounts.get(connection, account)
    if any(days is not None and days < 0 for days in (text_days, rows_days)):
        raise InvalidValue("days can't be negative: write 0 for no end")
    row = Retention(account, model, text_days, rows_days, now())
    mine = sa.and_(table.c.account == account, table.c.model == model)
    before = connection.execute(sa.select(table.c.text_days, table.c.rows_days).where(mine)).one_or_none()
    connection.execute(sa.delete(table).where(mine))
    connection.execute(sa.insert(table).values(**vars(row)))
    audit.record(
        connection,
        actor,
        "account.retention",
        account,
        before=None if before is None else before._asdict(),
        after={"text_days": text_days, "rows_days": rows_days},
        model=model,
    )
    return row


def every(connection: sa.Connection) -> list[Retention]:
    """Return all that is set, by account and model."""
    query = sa.select(table).order_by(table.c.account, table.c.model)
    return [Retention(**row._mapping) for row in connection.execute(query)]


class Policy:
    """What holds for an account and a model."""

    def __init__(self, general: GeneralRetention, assigned: list[Retention], without_text: frozenset[str]) -> None:
        self._general = (general.text_days, general.rows_days)
        self._models = {model.name: (model.text_days, model.rows_days) for model in general.models}
        self._assigned = {(row.account, row.model): (row.text_days, row.rows_days) for row in assigned}
        self._without_text = without_text

    def of(self, account: str, model: str) -> Days:
        """Return the days of the closest word, for each field by itself; a zero-retention account keeps no text."""
        words = (
            self._assigned.get((account, model)),
            self._assigned.get((account, ANY)),
            self._models.get(model),
            self._general,
        )
        text, rows = (next(word[field] for word in words if word and word[field] is not None) for field in (0, 1))
        return Days(0 if account in self._without_text else text or None, rows or None)


def policy(connection: sa.Connection, general: GeneralRetention) -> Policy:
    """Read what holds now."""
    silent = frozenset(account.name for account in accounts.every(connection) if not account.keep_text)
    return Policy(general, every(connection), silent)


def apply(settings: RetentionSettings, database: Database, moment: datetime | None = None) -> Kept:
    """Remove what is older than it may be, from the lake and from files set aside; gateway and ingester go on."""
    lake = Lake.of(settings)
    moment = moment or now()
    with database.read() as connection:
        kept, held = policy(connection, settings.retention), frozenset(holds.in_force(connection))
    rows = texts = 0
    for days, chosen in _by_days(lake, kept, held):
        if days.rows is not None:
            rows += rewriting.remove(lake, chosen & _before(moment, days.rows))
        if days.text is not None:
            texts += rewriting.change(lake, chosen & _before(moment, days.text) & _with_text(), without_text)
    blank(settings.data_dir / "spool", lake, lambda record: _is_over_age(record, kept, held, moment))
    files = rewriting.purge(lake) if rows or texts else 0
    if not held and settings.retention.text_days:
        files += _remove_old_files(settings.data_dir, moment - timedelta(days=settings.retention.text_days))
    return Kept(texts, rows, files)


def without_text(rows: pa.Table) -> pa.Table:
    """Return stored rows without prompts and answers, and without parameters and extras that may quote them."""
    columns = {name: rows[name] for name in rows.column_names}
    for name in TEXTS:
        columns[name] = pa.nulls(rows.num_rows, rows.schema.field(name).type)
    for name, strip in (("parameters", _figures), ("extra", _found_again)):
        columns[name] = pa.array([strip(value) for value in rows[name].to_pylist()], pa.string())
    return pa.Table.from_arrays(list(columns.values()), schema=rows.schema)


def _by_days(lake: Lake, kept: Policy, held: frozenset[str]) -> Iterator[tuple[Days, pc.Expression]]:
    pairs = lake.read(["account", "model"]).group_by(["account", "model"]).aggregate([]).to_pylist()
    found: dict[Days, dict[str | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        if pair["account"] not in held:
            found[kept.of(pair["account"], pair["model"] or "")][pair["model"]].append(pair["account"])
    for days, models in found.items():
        yield days, reduce(or_, (_rows_of(model, names) for model, names in models.items()))


def _is_over_age(record: Mapping[str, Any], kept: Policy, held: frozenset[str], moment: datetime) -> bool:
    account, text = record.get("account"), WIRE in record or any(name in record for name in TEXTS)
    if not text or account in held:
        return False
    days = kept.of(str(account), str(record.get("model", ""))).text
    return days is not None and from_rfc3339(record["time"]) < moment - timedelta(days=days)


def _rows_of(model: str | None, names: list[str]) -> pc.Expression:
    answered = pc.field("model").is_null() if model is None else pc.field("model") == model
    return answered & pc.field("account").isin(names)


def _before(moment: datetime, days: int) -> pc.Expression:
    end = moment - timedelta(days=days)
    # Nothing comes in before it was asked, give or take a clock's day: what is dated later was dated by a wrong one.
    arrived = (end.astimezone(UTC).date() - timedelta(days=1)).isoformat()
    return (pc.field("time") < millisecond(end)) | (pc.field("day") < arrived)


def _with_text() -> pc.Expression:
    """Rows with text, also where it is only among the extras: what could not be read is kept there as it came."""
    extra = pc.field("extra")
    quoting = extra.is_valid() & ~pc.match_substring_regex(extra, _ONLY_FOUND_AGAIN)
    return reduce(or_, (pc.field(name).is_valid() for name in TEXTS)) | pc.coalesce(quoting, pc.scalar(False))


def _figures(parameters: str | None) -> str | None:
    """Keep numbers and switches: no text hides in them."""
    return _reduced(parameters, lambda _name, value: isinstance(value, int | float))


def _found_again(extra: str | None) -> str | None:
    return _reduced(extra, lambda name, value: name in _KEPT_EXTRA and isinstance(value, str))


def _reduced(text: str | None, keeps: Callable[[str, object], bool]) -> str | None:
    value = None if text is None else json.loads(text)
    if not isinstance(value, dict):
        return None
    left = {name: item for name, item in value.items() if keeps(name, item)}
    return json.dumps(left, separators=(",", ":")) if left else None


def _remove_old_files(data_dir: Path, before: datetime) -> int:
    """Unlink what was set aside for people to look at and quotes requests: refused lines, damaged segments."""
    old = [
        path
        for pattern in ("rejected/*.jsonl", "spool/*/*.torn")
        for path in data_dir.glob(pattern)
        if path.stat().st_mtime < before.timestamp()
    ]
    for path in old:
        path.unlink()
    return len(old)
