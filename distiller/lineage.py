"""From a row to the students that learnt from it, and from an account: by the manifests, which outlive the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from distiller.snapshot import read_manifest
from gateway.ledger import marks, registry, snapshots
from gateway.ledger.errors import NotFound
from gateway.ledger.snapshots import Snapshot


@dataclass(frozen=True)
class Trace:
    """That a snapshot held `rows` rows of what was asked for; `split` and `sha256` where that is one row.

    `lost`: rows that it lost to withdrawals and erasures since, of whomever; `students` were made from it.
    """

    snapshot: str
    task: str
    rows: int
    students: tuple[str, ...]
    lost: int
    split: str | None = None
    sha256: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return it as plain JSON values, without what it lacks."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def traces(connection: sa.Connection, subject: str) -> list[Trace]:
    """Return where a request's id, or an account, went: newest snapshot first. `NotFound` where it went nowhere."""
    found = [trace for snapshot, _ in snapshots.every(connection) for trace in _in(connection, snapshot, subject)]
    if not found:
        raise NotFound(
            f"no snapshot holds or held {subject!r}: name a request's id, an account, or a student as NAME@VERSION"
        )
    return found


def _in(connection: sa.Connection, snapshot: Snapshot, subject: str) -> Iterator[Trace]:
    path = Path(snapshot.path)
    # Most manifests don't have it, and looking for its bytes is a hundred times as fast as reading them.
    if json.dumps(subject, ensure_ascii=False).encode() not in (path / "manifest.json").read_bytes():
        return
    manifest = read_manifest(path, snapshot.hash)
    students = tuple(row.reference for row in registry.every(connection) if row.snapshot == snapshot.hash)
    lost = sum(mark.rows for mark, _ in marks.of(connection, "snapshot", snapshot.hash))
    if subject in manifest["report"]["accounts"]:
        yield Trace(snapshot.hash, snapshot.task, manifest["report"]["accounts"][subject], students, lost)
    for name, part in manifest["splits"].items():
        for row_id, digest in part["rows"]:
            if row_id == subject:
                yield Trace(snapshot.hash, snapshot.task, 1, students, lost, name, digest)
