"""A copy of what can't be made again: the control plane and the secret that its keys were made with.

A backup of a control plane is a SQLite file of the present schema, whatever database it is a copy of. So each can be
restored from the other's backup, which is also how an installation moves from SQLite to PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from gateway.ledger import audit, keys, secret
from gateway.ledger.database import Database, open_database
from gateway.ledger.errors import AlreadyExists, Corrupt, Forbidden, LedgerError, NotFound
from gateway.ledger.identifiers import uuid7

FILE = "control.sqlite"
LOG = ("audit", "audit_head")  # restored only where there is none
OWN = ("alembic_version", "revisions")  # each database's own
BATCH = 1000


@dataclass(frozen=True)
class Restored:
    """What a restore did: the rows it brought, whether the audit log was kept, and the faults of the backup's own."""

    rows: int
    log_kept: bool
    faults: list[audit.Fault]


def back_up(database: Database, data_dir: Path, target: Path) -> list[Path]:
    """Copy both into a new folder, readable by the owner alone, while the house runs; return the files.

    All tables are of one moment. `SecretLost` where database and secret do not belong together: that copy would be
    worth nothing.
    """
    with database.read() as connection:
        pepper = keys.ensure_secret(connection, data_dir)
        if target.exists():
            raise AlreadyExists(f"{target} exists already: name a new folder, so that no older backup is lost")
        # Made beside it and named last: what was cut short never looks like a backup.
        draft = target.parent / f".{target.name}-{uuid7()}"
        draft.mkdir(mode=0o700, parents=True)
        try:
            for name in (FILE, "secret"):
                os.close(os.open(draft / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            (draft / "secret").write_bytes(pepper)
            copy = open_database(f"sqlite:///{draft / FILE}")
            with copy.write() as writing:
                _copy(connection, writing, _tables(writing))
            copy.close()
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return [target / FILE, target / "secret"]


def restore(database: Database, data_dir: Path, source: Path, actor: str, *, replace: bool = False) -> Restored:
    """Put a backup in the place of the control plane, in one transaction, and its secret where there is none.

    The house may run: its workers load what was restored as they load any change. What the audit log says is never
    taken back: a log that goes on from the backup's is kept, and `Forbidden` raised for any other, for another secret,
    and, without `replace`, where anything is lost. `NotFound` and `Corrupt` for what is no whole backup.
    """
    pepper = secret.read(source)
    with tempfile.TemporaryDirectory() as folder:
        copy = _opened(source, Path(folder) / FILE)
        try:
            with copy.read() as reading, database.write() as connection:
                keys.ensure_secret(reading, source)
                faults = audit.verify(reading).faults
                tables = _tables(reading)
                if not replace and not _is_empty(connection, tables):
                    raise Forbidden(
                        "there is a control plane already: `spiritsafe backup` keeps what it holds, and then --replace "
                        "puts this backup in its place"
                    )
                log_kept = _follows(connection, reading)
                wanted = [table for table in tables if not (log_kept and table.name in LOG)]
                secret.place(data_dir, pepper)
                rows = _copy(reading, connection, wanted)
                audit.record(connection, actor, "control.restore", "control plane", rows=rows, source=str(source))
        finally:
            copy.close()
    return Restored(rows, log_kept, faults)


def _opened(source: Path, copy: Path) -> Database:
    """Open a copy of the backup, brought to the present schema: the backup itself stays as it is."""
    try:
        shutil.copyfile(source / FILE, copy)
    except FileNotFoundError:
        raise NotFound(f"{source / FILE} does not exist: name the folder that `spiritsafe backup` made") from None
    database = Database(f"sqlite:///{copy}")
    try:
        with database.read() as connection:
            sound = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        if sound != ["ok"] or database.version() is None:
            raise Corrupt(f"{source / FILE} is no whole control plane: use another backup")
        database.migrate()
    except sa.exc.DatabaseError as error:
        database.close()
        raise Corrupt(f"{source / FILE} can't be read ({error.orig}): use another backup") from None
    except LedgerError:
        database.close()
        raise
    return database


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """Return the tables of a SQLite copy, what is referred to before what refers to it."""
    found = sa.MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name not in OWN]


def _is_empty(connection: sa.Connection, tables: Sequence[sa.Table]) -> bool:
    return not any(connection.execute(sa.select(t).limit(1)).first() for t in tables if t.name != "audit_head")


def _follows(connection: sa.Connection, backup: sa.Connection) -> bool:
    """Does the audit log go on from the backup's? False where there is none; `Forbidden` where it is another one."""
    if not audit.recent(connection, limit=1):
        return False
    end = audit.recent(backup, limit=1)
    if end and end[0].hash not in connection.execute(
        sa.select(audit.table.c.hash).where(audit.table.c.number == end[0].number)
    ).scalars():  # fmt: skip
        raise Forbidden(
            "the audit log there does not go on from the backup's, and rows of it are never removed: restore into an "
            "empty control plane, which `database` names (or `data_dir`, where it names none)"
        )
    return True


def _copy(source: sa.Connection, target: sa.Connection, tables: Sequence[sa.Table]) -> int:
    """Make the target's tables hold the source's rows, as they are stored; return how many."""
    for table in reversed(tables):
        if table.name != "audit":  # empty, and nothing may be removed from it
            target.execute(sa.delete(table))
    copied = 0
    for table in tables:
        query = sa.select(table).order_by(*table.primary_key)
        for part in source.execute(query, execution_options={"yield_per": BATCH}).mappings().partitions():
            target.execute(sa.insert(table), [dict(row) for row in part])
            copied += len(part)
    return copied
