"""The control plane's database: SQLAlchemy Core on SQLite (WAL) or PostgreSQL, every write announced by a revision.

Readers in other processes watch the revision, one integer that each write transaction increments, and load the tables
they keep in memory when it moves. That is what makes a revocation binding everywhere within a second.
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

from gateway.ledger.engines import BUSY_MS, WRITE, make_engine
from gateway.ledger.errors import InvalidValue, Unreachable
from gateway.ledger.serving import FileRight, Right, SessionRight
from gateway.ledger.watching import CHANNEL, Listening, Polling, Watch

MIGRATIONS = Path(__file__).parent / "migrations"
metadata = sa.MetaData()
revisions = sa.Table(
    "revisions", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.Integer)
)


def to_json(value: object) -> str:
    """Write a document in the one form it is stored in: keys sorted, so that equal documents are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A UTC time as integer milliseconds since the epoch, so that SQLite and PostgreSQL compare alike."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Turn an aware time into milliseconds."""
        return None if value is None else self.milliseconds(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Turn milliseconds into an aware UTC time."""
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)

    @staticmethod
    def milliseconds(value: datetime) -> int:
        """Return what is stored for an aware time."""
        return round(value.timestamp() * 1000)


class Json(sa.types.TypeDecorator[Any]):
    """A JSON document as text, in the form of `to_json`."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: sa.Dialect) -> str | None:
        """Serialise; None stays NULL."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> object:
        """Parse; NULL stays None."""
        return None if value is None else json.loads(value)


class Database:
    """One engine on the control plane. `write()` is a transaction that moves the revision, `read()` does not."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = make_engine(url)

    @contextmanager
    def write(self, announce: bool = True) -> Iterator[sa.Connection]:
        """Open a write transaction, which no other meets, committed at the end of the block.

        `announce=False` is for rows that no worker keeps in memory, such as an operator's saved views: thousands of
        keys are not read anew for them.

        `InvalidValue` for what PostgreSQL's types can't hold and SQLite's can, such as a NUL in a text, and for a
        number that neither holds.
        """
        try:
            with self._engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
                yield connection
                if not announce:
                    return
                connection.execute(sa.update(revisions).values(value=revisions.c.value + 1))
                if self.is_postgresql:
                    connection.exec_driver_sql(f"NOTIFY {CHANNEL}")  # delivered by the commit
        except sa.exc.DataError as error:
            raise InvalidValue(f"the database can't hold a value: {error.orig}") from None
        except OverflowError as error:  # SQLite's driver, of a number beyond 64 bits
            raise InvalidValue(f"the database can't hold a value: {error}") from None

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a read transaction: one consistent view of all tables."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def revision(self) -> int:
        """Return the number of write transactions so far."""
        with self.read() as connection:
            return int(connection.execute(sa.select(revisions.c.value)).scalar_one())

    def watch(self) -> Watch:
        """Return what follows the revision; for one thread, which closes it."""
        return Listening(self._engine) if self.is_postgresql else Polling(self._engine)

    def right_to_serve(self) -> Right:
        """Return the right to serve the students, not taken yet; for one thread at a time, which closes it."""
        if self.is_postgresql:
            return SessionRight(self._engine)
        path = sa.make_url(self.url).database
        return FileRight(Path(f"{path}.serving") if path else None)

    @property
    def is_postgresql(self) -> bool:
        """Is it on PostgreSQL? Otherwise it is on SQLite."""
        return self._engine.dialect.name == "postgresql"

    def migrate(self, version: str = "head") -> None:
        """Bring the schema up to a version, the newest by default; does nothing when it is there already.

        `InvalidValue` for a schema that a newer release has made.
        """
        found = self.version()
        if found == newest_version():
            return
        if found is not None and found > newest_version():
            raise InvalidValue(
                f"the control plane's schema is {found} and this release knows {newest_version()} at most: "
                "run the newer release that other processes of this installation run"
            )
        # A process that finds the schema in place is 12 MB smaller and 0.1 s quicker without it.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        with self._engine.connect().execution_options(**{WRITE: True}) as connection:
            config = Config()
            # Alembic reads a percent sign in an option as the start of a variable.
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, version)

    def version(self) -> str | None:
        """Return the schema's version, None where there is no control plane."""
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def compact(self, patience_s: float = 30.0) -> bool:
        """Leave no byte of deleted rows in the tables' files, free pages or log; False while a reader holds them.

        PostgreSQL recycles its log (`pg_wal`) by itself, after its next checkpoints.
        """
        if self.is_postgresql:
            return self._rewrite_tables(patience_s)
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
                connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        return True

    def _rewrite_tables(self, patience_s: float) -> bool:
        with self.read() as connection:
            names = ", ".join(f'"{name}"' for name in sa.inspect(connection).get_table_names())
        pooled = self._engine.raw_connection()
        link: Any = pooled.driver_connection
        pooled.detach()
        with closing(link):
            link.autocommit = True  # a transaction can't hold it
            link.execute(f"SET lock_timeout = {round(patience_s * 1000)}")
            try:
                link.execute(f"VACUUM FULL {names}")
            except self._engine.dialect.loaded_dbapi.errors.LockNotAvailable:
                return False
        return True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the database consists of; none where it is a server."""
        path = sa.make_url(self.url).database if not self.is_postgresql else None
        return tuple(Path(path + end) for end in ("", "-wal", "-shm") if Path(path + end).exists()) if path else ()

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


@cache
def newest_version() -> str:
    """Return the version that the code's own migrations lead to: their files are numbered."""
    return max(file.name[:4] for file in MIGRATIONS.glob("versions/[0-9]*.py"))


def open_database(url: str) -> Database:
    """Open the control plane at an SQLAlchemy URL, making the file and its schema where they are missing.

    `Unreachable` where nobody answers there, or lets us in.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    database = Database(url)
    try:
        database.migrate()
    except sa.exc.OperationalError as error:
        database.close()
        place = parsed.render_as_string(hide_password=True)
        raise Unreachable(f"the control plane {place} can't be used: {error.orig}; see `database`") from error
    return database
