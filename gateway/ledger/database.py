"""The control plane's database: SQLAlchemy Core on SQLite (WAL), every write announced by a revision.

Readers in other processes watch `revision()`, one integer that each write transaction increments, and load the
tables they keep in memory when it moves. That is what makes a revocation binding everywhere within a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

MIGRATIONS = Path(__file__).parent / "migrations"
metadata = sa.MetaData()
_BUSY_MS = 10_000  # how long a writer waits for its turn
revisions = sa.Table(
    "revisions", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.Integer)
)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A UTC time as integer milliseconds since the epoch, so that SQLite and PostgreSQL compare alike."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Turn an aware time into milliseconds."""
        return None if value is None else round(value.timestamp() * 1000)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Turn milliseconds into an aware UTC time."""
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


class Json(sa.types.TypeDecorator[Any]):
    """A JSON document as text, keys sorted, so that equal documents are equal bytes."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: sa.Dialect) -> str | None:
        """Serialise; None stays NULL."""
        return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> object:
        """Parse; NULL stays None."""
        return None if value is None else json.loads(value)


class Database:
    """One engine on the control plane. `write()` is a transaction that moves the revision, `read()` does not."""

    def __init__(self, url: str) -> None:
        self.url = url
        # An error must not quote what was to be written: hashes of passwords and keys among it.
        self._engine = sa.create_engine(url, hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a write transaction (SQLite: `BEGIN IMMEDIATE`), committed at the end of the block."""
        with self._engine.connect().execution_options(spiritsafe_write=True) as connection, connection.begin():
            yield connection
            connection.execute(sa.update(revisions).values(value=revisions.c.value + 1))

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a read transaction: one consistent view of all tables."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def revision(self) -> int:
        """Return the number of write transactions so far."""
        with self.read() as connection:
            return int(connection.execute(sa.select(revisions.c.value)).scalar_one())

    def migrate(self, version: str = "head") -> None:
        """Bring the schema up to a version, the newest by default; does nothing when it is there already."""
        if self._version() == newest_version():
            return
        # A process that finds the schema in place is 12 MB smaller and 0.1 s quicker without it.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        with self._engine.connect().execution_options(spiritsafe_write=True) as connection:
            config = Config()
            # Alembic reads a percent sign in an option as the start of a variable.
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, version)

    def _version(self) -> str | None:
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def compact(self, patience_s: float = 30.0) -> bool:
        """Leave no byte of deleted rows in the file, its free pages or its log; False while a reader holds the log.

        For SQLite; another database has means of its own, and True says only that there was nothing to do here.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        deadline = time.monotonic() + patience_s
        with closing(self._engine.raw_connection()) as connection:
            # A copy of all rows must not lie in a temporary file either.
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("VACUUM")
            connection.execute("PRAGMA busy_timeout=50")
            try:
                while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.05)
            finally:
                connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        return True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the database consists of; none where it is a server."""
        path = sa.make_url(self.url).database if self._engine.dialect.name == "sqlite" else None
        return tuple(Path(path + end) for end in ("", "-wal", "-shm") if Path(path + end).exists()) if path else ()

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


@cache
def newest_version() -> str:
    """Return the version that the code's own migrations lead to: their files are numbered."""
    return max(file.name[:4] for file in MIGRATIONS.glob("versions/[0-9]*.py"))


def open_database(url: str) -> Database:
    """Open the control plane at an SQLAlchemy URL, making the file and its schema where they are missing."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    database.migrate()
    return database


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late for BEGIN IMMEDIATE; `_begin` does it instead.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_MS}",
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("spiritsafe_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
