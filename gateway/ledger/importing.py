"""Bringing in history from elsewhere: traffic and accounts as JSON Lines, good lines kept and bad ones set aside.

Importing the same lines again adds nothing: traffic is known by its ids, accounts by their names.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from gateway.ledger import accounts, consents, declared_uses, fingerprint
from gateway.ledger.configuration import Place
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, LedgerError
from gateway.ledger.identifiers import from_rfc3339, now, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table, validate

logger = logging.getLogger(__name__)

BATCH_ROWS = 10_000
_SHOWN_REJECTIONS = 1_000


@dataclass
class ImportReport:
    """What became of the lines: rows added, lines refused (number, reason; the first 1,000), and rows known already.

    `refused` counts all refused lines; they stand, with number and reason, in `rejected_file`.
    """

    rows: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    already: int = 0
    refused: int = 0
    rejected_file: Path | None = None

    def summary(self) -> dict[str, Any]:
        """Return the counts as one flat object."""
        aside = None if self.rejected_file is None else str(self.rejected_file)
        return {"rows": self.rows, "already": self.already, "rejected": self.refused, "rejected_file": aside}


def import_traffic(
    lines: Iterable[str],
    settings: Place,
    progress: Callable[[int], None] = lambda _lines: None,
    batch_rows: int = BATCH_ROWS,
) -> ImportReport:
    """Add traffic records to the lake, a batch at a time; `progress` is told the number of lines read so far.

    A row without `origin` is `imported`, and `live` becomes so too: only the gateway itself makes live rows.
    """
    report = ImportReport()
    lake = Lake.of(settings)
    rejected = _Rejected(settings.data_dir / "rejected", "traffic", report)
    with _one_at_a_time(settings.data_dir / "lake"):
        lake.repair()
        known = _KnownIds(lake)
        batch: list[dict[str, Any]] = []
        number = 0
        for number, line in enumerate(lines, 1):
            record = _read_line(line, number, rejected, validate)
            if record is not None:
                batch.append(record)
            if len(batch) >= batch_rows:
                _add(batch, lake, known, report)
                batch = []
                progress(number)
        _add(batch, lake, known, report)
        progress(number)
    return report


def import_accounts(lines: Iterable[str], settings: Place, database: Database, actor: str) -> ImportReport:
    """Add accounts with their consents and declared uses, a transaction each; known names are left as they are."""
    report = ImportReport()
    rejected = _Rejected(settings.data_dir / "rejected", "accounts", report)
    for number, line in enumerate(lines, 1):
        row = _read_line(line, number, rejected, _account_problems)
        if row is None:
            continue
        try:
            with database.write() as connection:
                _create_account(connection, row, actor)
            report.rows += 1
        except AlreadyExists:
            report.already += 1
        except LedgerError as error:
            rejected.add(number, line, str(error))
    return report


class _Rejected:
    """The file that bad lines are set aside in, made when the first one comes."""

    def __init__(self, folder: Path, kind: str, report: ImportReport) -> None:
        stamp = to_rfc3339(now()).replace(":", "").replace(".", "")
        self._path = folder / f"{kind}-{stamp}.jsonl"
        self._report = report

    def add(self, number: int, line: str, reason: str) -> None:
        """Write the line down with its number and the reason."""
        self._report.refused += 1
        self._report.rejected_file = self._path
        if len(self._report.rejected) < _SHOWN_REJECTIONS:
            self._report.rejected.append((number, reason))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"line": number, "reason": reason, "text": line.rstrip("\n")}) + "\n")


class _KnownIds:
    """The ids in the lake as 64-bit hashes, 8 bytes each, so that memory hardly grows with the lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        hashes = [_hashes(batch) for batch in lake.ids()]
        self._sorted = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.int64)

    def among(self, ids: list[str]) -> set[str]:
        """Return those of the ids that the lake has; a hash only says which ones are worth looking up."""
        places = np.searchsorted(self._sorted, hashes := _hashes(ids))
        places[places == self._sorted.size] = 0
        suspects = [] if self._sorted.size == 0 else np.flatnonzero(self._sorted[places] == hashes).tolist()
        if not suspects:
            return set()
        found = self._lake.read(["id"], filter=pc.field("id").isin([ids[position] for position in suspects]))
        return set(found.column("id").to_pylist())

    def add(self, ids: list[str]) -> None:
        """Learn ids that were added."""
        self._sorted = np.sort(np.concatenate((self._sorted, _hashes(ids))))


def _add(batch: list[dict[str, Any]], lake: Lake, known: _KnownIds, report: ImportReport) -> None:
    if not batch:
        return
    unique = {record["id"]: record for record in reversed(batch)}  # Of two lines with one id the first counts.
    there = known.among(list(unique))
    fresh = fingerprint.complete_all([_imported(one) for one in reversed(unique.values()) if one["id"] not in there])
    report.already += len(batch) - len(fresh)
    if fresh:
        lake.append(to_table(fresh))
        known.add([record["id"] for record in fresh])
        report.rows += len(fresh)


def _imported(record: dict[str, Any]) -> dict[str, Any]:
    origin = "synthetic" if record.get("origin") == "synthetic" else "imported"
    return {**record, "origin": origin}


def _hashes(ids: list[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))


def _read_line(
    line: str, number: int, rejected: _Rejected, problems_of: Callable[[object], list[str]]
) -> dict[str, Any] | None:
    if not line.strip():
        return None
    try:
        row = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        rejected.add(number, line, f"is no JSON ({error}): write one object per line")
        return None
    problems = problems_of(row)
    if problems:
        rejected.add(number, line, "; ".join(problems))
        return None
    return dict(row)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _account_problems(row: object) -> list[str]:
    if not isinstance(row, dict):
        return ["must be an object: write one account per line"]
    problems = [] if isinstance(row.get("account"), str) else ["account is missing: every account needs a name"]
    for name, kinds in _ACCOUNT_FIELDS.items():
        if row.get(name) is not None and not isinstance(row[name], kinds):
            problems.append(f"{name} is of the wrong type: see docs/data-model.md")
    times = [("created", row.get("created")), ("consent.time", _inner(row.get("consent"), "time"))]
    uses = row.get("declared_uses")
    for use in uses if isinstance(uses, list) else []:
        if not isinstance(_inner(use, "use"), str) or not use["use"].strip():
            problems.append("declared_uses: each needs `use`, in words")
        times.append(("declared_uses.until", _inner(use, "until")))
        if type(_inner(use, "cap_per_day")) not in (int, type(None)):
            problems.append("declared_uses.cap_per_day must be a whole number")
        elif _inner(use, "cap_per_day") is not None and use["cap_per_day"] < 1:
            problems.append("declared_uses.cap_per_day must be at least 1")
    return problems + [f"{name} is no RFC 3339 time in UTC" for name, value in times if not _is_time(value)]


_ACCOUNT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "tier": str,
    "consent": (dict, bool),
    "declared_uses": list,
    "payment": str,
    "signup_network": str,
    "labels": dict,
    "operator": bool,
}


def _inner(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _is_time(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and from_rfc3339(value) is not None)
    except ValueError:
        return False


def _create_account(connection: sa.Connection, row: dict[str, Any], actor: str) -> None:
    account = accounts.Account(
        name=row["account"],
        created=_time(row.get("created")) or now(),
        tier=row.get("tier") or "default",
        operator=bool(row.get("operator")),
        payment=row.get("payment"),
        signup_network=row.get("signup_network"),
        labels=row.get("labels"),
    )
    accounts.create(connection, account, actor)
    consent = row.get("consent")
    if consent and _inner(consent, "purpose") in (None, consents.TRAINING):
        version = str(_inner(consent, "version") or consents.VERSION)
        consents.grant(connection, account.name, actor, version=version, time=_time(_inner(consent, "time")))
    for use in row.get("declared_uses") or []:
        declared_uses.declare(
            connection, account.name, use["use"], actor, use.get("cap_per_day"), _time(use.get("until"))
        )


def _time(text: str | None) -> datetime | None:
    return None if text is None else from_rfc3339(text)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    # Two imports of the same file at once would each find its ids missing.
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "import.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
