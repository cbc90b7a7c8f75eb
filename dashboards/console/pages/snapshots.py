"""Training snapshots: what would be learnt from, what was left out, and a person's yes to exactly these rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fastapi import APIRouter
from starlette.responses import Response

from dashboards.console import redaction, reveals
from dashboards.console.visit import Reader, Text, Visit, Writer, go
from gateway.ledger import audit, registry, snapshots
from gateway.ledger.errors import Forbidden, InvalidValue
from gateway.ledger.snapshots import Snapshot

router = APIRouter()

SPLITS = ("train", "calibration", "gate")
SAMPLES = 3


@router.get("/snapshots")
def show_all(visit: Reader) -> Response:
    """Show all snapshots, those that wait for approval first."""
    with visit.console.database.read() as connection:
        every = snapshots.every(connection)
        students = registry.every(connection)
    return visit.page(
        "snapshots.html",
        waiting=[snapshot for snapshot, approval in every if approval is None],
        approved=[(snapshot, approval) for snapshot, approval in every if approval is not None],
        students={snapshot.hash: [s for s in students if s.snapshot == snapshot.hash] for snapshot, _ in every},
    )


@router.get("/snapshots/{digest}")
def show_one(visit: Reader, digest: str, revealed: str = "", approved: bool = False) -> Response:
    """Show one snapshot."""
    return _snapshot_page(visit, digest, revealed=revealed, done=approved)


@router.post("/snapshots/{digest}/approve")
def approve(visit: Writer, digest: str, note: Text = "") -> Response:
    """Approve a snapshot's hash; who asked for it can't."""
    try:
        with visit.console.database.write() as connection:
            approval = snapshots.approve(connection, digest, visit.operator, note.strip())
    except Forbidden as error:
        return _snapshot_page(visit, digest, problem=str(error), status=409)
    return go(f"/snapshots/{approval.snapshot}?approved=1")


@router.post("/snapshots/{digest}/reveal")
def reveal(visit: Writer, digest: str, reason: Text = "") -> Response:
    """Open the sample rows to this operator for ten minutes, for a reason that the audit log keeps."""
    try:
        with visit.console.database.write() as connection:
            snapshot = snapshots.get(connection, digest)
            records = [str(row.get("id")) for row in _samples(snapshot)]
            place = _place(snapshot)
            reveal_id = reveals.ask(connection, visit.operator, snapshot.hash, place, records, reason)
    except InvalidValue as error:
        return _snapshot_page(visit, digest, reveal_problem=str(error), status=422)
    return go(f"/snapshots/{snapshot.hash}?revealed={reveal_id}#samples")


def _snapshot_page(
    visit: Visit,
    digest: str,
    *,
    revealed: str = "",
    problem: str = "",
    reveal_problem: str = "",
    done: bool = False,
    status: int = 200,
) -> Response:
    with visit.console.database.read() as connection:
        snapshot = snapshots.get(connection, digest)
        values = {
            "approval": snapshots.approval(connection, snapshot),
            "students": [student for student in registry.every(connection) if student.snapshot == snapshot.hash],
            "history": audit.recent(connection, limit=20, subject=snapshot.hash),
            "reveal": reveals.find(connection, visit.operator, snapshot.hash, _place(snapshot), revealed),
        }
    return visit.page(
        "snapshot.html",
        status,
        snapshot=snapshot,
        splits=_splits(snapshot),
        rows_in=sum(count for _, count in _splits(snapshot)),
        left_out=_counts(snapshot.report.get("left_out")),
        accounts=_counts(snapshot.report.get("accounts")),
        scrubbed=_counts(snapshot.report.get("scrubbed")),
        samples=[_sample(row) for row in _samples(snapshot)],
        problem=problem,
        reveal_problem=reveal_problem,
        done=done,
        **values,
    )


def _splits(snapshot: Snapshot) -> list[tuple[str, int]]:
    rows = snapshot.report.get("rows", {})
    return [(name, int(rows[name])) for name in SPLITS if name in rows]


def _counts(value: object) -> list[tuple[str, int]]:
    counts = value if isinstance(value, dict) else {}
    numbers = [(str(name), count) for name, count in counts.items() if isinstance(count, int)]
    return sorted(numbers, key=lambda item: -item[1])


def _samples(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Read the first rows to be trained on; none where the snapshot's file is gone."""
    file = Path(snapshot.path) / "train.parquet"
    if not file.exists():
        return []
    first = next(pq.ParquetFile(file).iter_batches(batch_size=SAMPLES), None)
    return [] if first is None else list(first.to_pylist())


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    request = json.loads(row["request"]) if isinstance(row.get("request"), str) else {}
    answer = redaction.Part("answer", str(row.get("answer", "")))
    return {"id": row.get("id", ""), "account": row.get("account", ""), "parts": [*redaction.parts(request), answer]}


def _place(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.hash}"
