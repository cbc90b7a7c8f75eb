"""Erasing an account: everything of it, from everything, proven by a scan; and withdrawing it from training alone.

An erasure is a row of `erasures` and a tombstone beside the lake, then steps that may each be repeated: whatever is
killed and when, the next attempt ends the work, and until then no reader sees a row. Whoever writes (workers, ingester,
detector) goes on meanwhile. What stays is ids: audit rows, manifests of snapshots, and the receipt.
"""

from __future__ import annotations

import fcntl
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import sqlalchemy as sa

from gateway.ledger import (
    accounts,
    alerts,
    audit,
    blanking,
    consents,
    durable,
    erasures,
    holds,
    keys,
    marks,
    quoting_files,
    registry,
    rewriting,
    snapshot_rows,
    snapshots,
    tombstones,
)
from gateway.ledger.configuration import Place
from gateway.ledger.database import Database
from gateway.ledger.erasures import Erasure
from gateway.ledger.errors import LedgerError, NotFound
from gateway.ledger.frames import Kind, read_segment
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.scanning import MOST_PIECES, Scan, Sought, pieces_of, scan, stored_in, strings_in
from gateway.ledger.spool import segments, slots

POLL_S = 0.5
RECEIPTS = "receipts"
_TEXTS = ("messages", "prompt", "response", "wire")


class Unfinished(LedgerError):
    """An erasure could not be ended yet; the message says what it waits for. The tombstone stands."""


@dataclass(frozen=True)
class Surroundings:
    """Where an erasure works.

    `bring_in` has the spool ingested where no ingester runs. `quiet_s`: how long after its keys have ended a request of
    the account may still begin. `patience_s`: how long to wait for requests under way. `say` tells what it waits for.
    """

    settings: Place
    database: Database
    bring_in: Callable[[], None]
    quiet_s: float
    patience_s: float
    say: Callable[[str], None] = lambda _text: None

    @property
    def data_dir(self) -> Path:
        """The installation's folder."""
        return self.settings.data_dir


@dataclass(frozen=True)
class _Job:
    """One attempt."""

    around: Surroundings
    erasure: Erasure
    lake: Lake

    @property
    def account(self) -> str:
        """Whose rows go."""
        return self.erasure.account

    @property
    def notes(self) -> Path:
        """What to look for at the end, learnt before it went; hidden like the rows, and gone with the tombstone."""
        return self.around.data_dir / "erasures" / f"{self.erasure.id}.json"

    @property
    def receipt(self) -> Path:
        """The receipt's file."""
        return self.around.data_dir / RECEIPTS / f"{self.erasure.id}.json"

    def sought(self) -> Sought:
        """Read the notes."""
        noted = json.loads(self.notes.read_bytes())
        return Sought(self.account, tuple(noted["pieces"]), tuple(bytes.fromhex(text) for text in noted["secrets"]))


def erase(around: Surroundings, account: str, actor: str) -> Erasure:
    """Remove everything of an account, or go on where an earlier attempt ended; return it with its receipt.

    Raises `Forbidden` while a legal hold stands, `NotFound` where there is nothing, `Unfinished` when it has to wait.
    """
    lake = Lake.of(around.settings)
    with durable.turn(around.data_dir / "erasures.lock"):
        job = _Job(around, _begin(around, lake, account, actor), lake)
        if not job.receipt.exists():
            for step in STEPS:
                _check_hold(around, account, actor)
                step(job)
        return _close(job)


def withdraw(around: Surroundings, account: str, actor: str) -> Erasure:
    """End an account's consent and take its rows out of snapshots; what the lake has follows ordinary retention."""
    lake = Lake.of(around.settings)
    with durable.turn(around.data_dir / "erasures.lock"):
        with around.database.write() as connection:
            accounts.get(connection, account)
            consents.withdraw(connection, account, actor)
            erasure = erasures.begin(connection, account, "withdrawal", actor)
        job = _Job(around, erasure, lake)
        if not job.receipt.exists():
            _take_out_of_snapshots(job)
            _prove_withdrawn(job)
        return _close(job)


def under_way(settings: Place) -> frozenset[str]:
    """Return the accounts that have a tombstone."""
    return Lake.of(settings).storage.hidden()


# --- the steps: each may be repeated ---------------------------------------------------------------------------------


def _hide(job: _Job) -> None:
    """From here on nobody reads a row of the account, and the lake takes none in."""
    job.lake.hide(job.account)


def _learn(job: _Job) -> None:
    """Note pieces of the texts and the hashes of the keys, to look for when all should be gone."""
    if job.notes.exists():
        return
    mine = pc.field("account") == job.account
    ids = set(job.lake.read(["id"], mine, with_erased=True)["id"].to_pylist())
    spooled = list(_spooled(job.around.data_dir / "spool", job.account))
    texts = [*_lake_texts(job.lake, mine), *(text for record in spooled for text in _record_texts(record))]
    with job.around.database.write() as connection:
        secrets = [key.hash.hex() for key in keys.every(connection, job.account)]
        erasures.set_rows(connection, job.erasure, len(ids | {record["id"] for record in spooled}))
    noted = {"pieces": pieces_of(texts), "secrets": secrets}
    durable.write(job.notes, json.dumps(noted).encode())


def _settle(job: _Job) -> None:
    """Wait until the account's last request is in the lake's hands, then take all of them out of the spool."""
    began = time.monotonic()
    spool = job.around.data_dir / "spool"
    while True:
        job.around.bring_in()
        _count, waiting = blanking.blank(spool, job.lake, _is_of(job.account))
        quiet = _quiet_in(job) if _has_writers(spool) else 0.0
        if not waiting and quiet <= 0:
            break
        words = f"{waiting.under_way} requests under way, {waiting.unread} not ingested, {max(0.0, quiet):.0f} s quiet"
        if time.monotonic() - began > job.around.patience_s + job.around.quiet_s:
            raise Unfinished(f"{job.account!r} is hidden but not erased, it waits for {words}: run the command again")
        job.around.say(f"waiting for {words}")
        time.sleep(POLL_S)
    blanking.discard_damaged(spool)


def _remove_from_lake(job: _Job) -> None:
    """Rewrite what has rows of the account, unlink the old files, and begin the log anew."""
    rewriting.remove(job.lake, pc.field("account") == job.account)
    rewriting.purge(job.lake)


def _take_out_of_snapshots(job: _Job) -> None:
    """Take the rows out, and mark every snapshot and student that held them."""
    snapshot_rows.sweep(job.around.data_dir / "snapshots")
    found = (snapshot_rows.take_out(path, job.account, job.erasure.id) for path in _snapshot_folders(job))
    losses = {loss.path.name: loss.rows for loss in found if loss is not None}
    with job.around.database.write() as connection:
        if job.erasure.kind == "withdrawal" and losses:
            erasures.set_rows(connection, job.erasure, sum(losses.values()))
        for digest, rows in losses.items():
            marks.put(connection, marks.Mark(job.erasure.id, "snapshot", digest, rows))
        for student in registry.every(connection):
            if student.snapshot in losses:
                mark = marks.Mark(job.erasure.id, "student", student.reference, losses[student.snapshot])
                marks.put(connection, mark)


def _clean_files(job: _Job) -> None:
    """Take the account out of logs, lines set aside and model cards, and have the detector read the lake again."""
    quoting_files.clean(job.around.data_dir, job.sought())
    # Whoever keeps something there keeps nothing of an account that has a tombstone, and makes anew what is missing.
    for kept in sorted((job.around.data_dir / "detector").glob("*")):
        durable.remove(kept)


def _forget(job: _Job) -> None:
    """Delete what the control plane knows of the account, and the account; audit rows keep its id."""
    with job.around.database.write() as connection:
        known = sa.MetaData()
        known.reflect(connection)
        own = [key.id for key in keys.every(connection, job.account)]
        own += [key.family for key in keys.every(connection, job.account)]
        limits = known.tables["limits"]
        by_account = sa.and_(limits.c.subject == "account", limits.c.name == job.account)
        by_key = sa.and_(limits.c.subject == "key", limits.c.name.in_(own))
        connection.execute(sa.delete(limits).where(sa.or_(by_account, by_key)))
        alerts.forget_member(connection, job.account)
        # Whatever refers to an account, tables that later versions add included.
        for table in known.sorted_tables[::-1]:
            for column in table.columns:
                if any(key.column.table.name == accounts.table.name for key in column.foreign_keys):
                    connection.execute(sa.delete(table).where(column == job.account))
        connection.execute(sa.delete(holds.table).where(holds.table.c.account == job.account))
        connection.execute(sa.delete(accounts.table).where(accounts.table.c.name == job.account))


def _compact(job: _Job) -> None:
    """Leave nothing of it in the control plane's free pages and log."""
    if not job.around.database.compact():
        raise Unfinished("a reader holds the control plane, so it can't be written anew: run the command again")


def _prove(job: _Job) -> None:
    """Search the bytes of every file, and write the receipt if nothing is found."""
    files = job.around.database.files
    hidden = [*job.notes.parent.iterdir(), job.around.data_dir / "lake" / tombstones.FILE]
    result = scan(job.around.data_dir, job.sought(), files, without=hidden, stored=stored_in(job.lake.storage))
    if not result.is_clean:
        places = ", ".join(f"{found.file} ({found.what})" for found in result.found[:10])
        raise Unfinished(
            f"something of {job.account!r} is left in {places}: run the command again, and look there if it stays"
        )
    _write_receipt(job, result)


def _prove_withdrawn(job: _Job) -> None:
    """Look for rows in every file of every snapshot, and write the receipt if none is found."""
    files = [path for folder in _snapshot_folders(job) for path in folder.glob("*.parquet")]
    left = {str(path): rows for path in files if (rows := snapshot_rows.rows_of(path, job.account))}
    if left:
        raise Unfinished(f"rows of {job.account!r} are in {', '.join(left)} still: run the command again")
    _write_receipt(job, Scan(len(files), sum(path.stat().st_size for path in files), ()))


STEPS: tuple[Callable[[_Job], None], ...] = (
    _hide,
    _learn,
    _settle,
    _remove_from_lake,
    _take_out_of_snapshots,
    _clean_files,
    _forget,
    _compact,
    _prove,
)


# --- begin and end ---------------------------------------------------------------------------------------------------


def _begin(around: Surroundings, lake: Lake, account: str, actor: str) -> Erasure:
    _check_hold(around, account, actor)
    with around.database.read() as connection:
        known = accounts.find(connection, account) is not None
        begun = erasures.under_way(connection, account, "erasure")
    if not known and begun is None and not _has_rows(lake, account) and not _is_left_here(around, account):
        raise NotFound(
            f"there is no account {account!r} and no row of it: `spiritsafe accounts list` shows those there are"
        )
    with around.database.write() as connection:
        holds.check(connection, account)  # one may have been placed since
        erasure = erasures.begin(connection, account, "erasure", actor)
        if accounts.find(connection, account) is not None:
            for key in keys.every(connection, account):
                keys.revoke(connection, key.id, actor)
            if account in consents.in_force(connection):
                consents.withdraw(connection, account, actor)
            if accounts.get(connection, account).keep_text:
                accounts.set_keep_text(connection, account, False, actor)
    return erasure


def _is_left_here(around: Surroundings, account: str) -> bool:
    """Was the account erased on another machine that shares the lake, or has this one's spool still something of it?"""
    with around.database.read() as connection:
        done = [row for row in erasures.every(connection) if (row.account, row.kind) == (account, "erasure")]
    # They are sorted by time: whoever has the newest one's receipt did it.
    elsewhere = bool(done) and not (around.data_dir / RECEIPTS / f"{done[0].id}.json").exists()
    return elsewhere or next(_spooled(around.data_dir / "spool", account), None) is not None


def _check_hold(around: Surroundings, account: str, actor: str) -> None:
    """Raise `Forbidden` while a hold stands, and leave a row that says whom it stopped."""
    with around.database.read() as connection:
        hold = holds.find(connection, account)
    if hold is None:
        return
    with around.database.write() as connection:
        audit.record(connection, actor, "account.erase_stopped", account, hold=hold.id)
    raise holds.refusal(hold)


def _close(job: _Job) -> Erasure:
    """Lift the tombstone and close the request; the receipt is on the disk, so a kill here costs nothing."""
    receipt = json.loads(job.receipt.read_bytes())
    job.lake.show(job.account)
    durable.remove(job.notes)
    with job.around.database.write() as connection:
        return erasures.finish(connection, job.erasure, receipt)


def _write_receipt(job: _Job, result: Scan) -> None:
    with job.around.database.read() as connection:
        erasure = erasures.get(connection, job.erasure.id)
        marked = marks.of_erasure(connection, erasure.id)
    scanned = {"files": result.files, "bytes": result.bytes, "found": len(result.found)}
    if erasure.kind == "erasure":
        scanned["pieces"] = len(job.sought().pieces)
    receipt = {
        "id": erasure.id,
        "account": erasure.account,
        "kind": erasure.kind,
        "data_dir": str(job.around.data_dir.resolve()),
        "host": platform.node(),
        "requested_by": erasure.actor,
        "begun": to_rfc3339(erasure.begun),
        "finished": to_rfc3339(now()),
        "rows": erasure.rows,
        "snapshots": _marked(marked, "snapshot"),
        "students": _marked(marked, "student"),
        "scan": scanned,
    }
    durable.write(job.receipt, json.dumps(receipt, indent=1).encode() + b"\n", 0o444)


def _marked(found: list[marks.Mark], kind: marks.Kind) -> list[dict[str, Any]]:
    return [{"reference": mark.reference, "rows": mark.rows} for mark in found if mark.kind == kind]


# --- what the steps look at ------------------------------------------------------------------------------------------


def _has_rows(lake: Lake, account: str) -> bool:
    return bool(lake.read(["id"], pc.field("account") == account, with_erased=True).num_rows)


def _is_of(account: str) -> blanking.Chosen:
    return lambda record: record.get("account") == account


def _quiet_in(job: _Job) -> float:
    """Return how many seconds a request that was let in before the keys ended may still take to begin."""
    ends = job.erasure.begun + timedelta(seconds=job.around.quiet_s)
    return (ends - now()).total_seconds()


def _has_writers(spool: Path) -> bool:
    """Return whether a worker holds any slot."""
    for folder in slots(spool):
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def _spooled(spool: Path, account: str) -> Iterator[dict[str, Any]]:
    for folder in slots(spool):
        for path in segments(folder):
            for frame in read_segment(path):
                if frame.kind is Kind.FINAL and frame.record.get("account") == account:
                    yield frame.record


def _lake_texts(lake: Lake, mine: pc.Expression) -> Iterator[str]:
    """Yield the texts of rows spread over all of the account's."""
    rows = lake.read(["messages", "prompt", "response"], mine, with_erased=True)
    step = max(1, rows.num_rows // MOST_PIECES)
    for number in range(0, rows.num_rows, step):
        for value in rows.slice(number, 1).to_pylist()[0].values():
            yield from strings_in(None if value is None else json.loads(value))


def _record_texts(record: dict[str, Any]) -> Iterator[str]:
    return (text for name in _TEXTS for text in strings_in(record.get(name)))


def _snapshot_folders(job: _Job) -> list[Path]:
    """Return every snapshot's folder, one that was frozen and never proposed included."""
    with job.around.database.read() as connection:
        registered = {Path(snapshot.path) for snapshot, _ in snapshots.every(connection)}
    directory = job.around.data_dir / "snapshots"
    return sorted(registered | {path.parent for path in directory.glob("*/manifest.json")})
