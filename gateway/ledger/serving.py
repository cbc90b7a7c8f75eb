"""Who serves the students: of several houses on one control plane one at a time, since a student has one address.

The right is a lock that ends with the process that holds it, whatever ended that: of a session on PostgreSQL, of a file
beside SQLite's. No row and no clock says whose it is, so that nothing is left to clear up.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

_LOCK = int.from_bytes(b"student", "big")
_TAKE = f"SELECT pg_try_advisory_lock({_LOCK})"
# The server's own end of the link, whose defaults are hours: the right of a lost house is another's in seconds.
_LINK = (
    "SET tcp_user_timeout = 3000; SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; "
    "SET tcp_keepalives_count = 3; SET idle_session_timeout = 0"
)


class Right(Protocol):
    """The right to serve, of one process."""

    def held(self) -> bool:
        """Take it where it is free, and say whether it is ours; `ConnectionError` or `OSError` where nobody can say."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...


class FileRight:
    """Beside an SQLite file; `path` None: a database that no other process can open."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def held(self) -> bool:
        """Take the lock where it is free; once held it stays so."""
        if self._path is None or self._file is not None:
            return True
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def close(self) -> None:
        """Unlock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class SessionRight:
    """On PostgreSQL: a connection of its own, outside the pool; who loses it has to take the right anew."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._failures: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._connection: Any = None  # psycopg's

    def held(self) -> bool:
        """Ask on the very connection that has it, so that a lost one is found out."""
        try:
            if self._connection is None:
                return self._take()
            self._connection.execute("SELECT 1")
        except (self._failures, sa.exc.SQLAlchemyError) as error:
            self.close()
            raise ConnectionError(str(error)) from error
        return True

    def close(self) -> None:
        """End the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _take(self) -> bool:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            connection.execute(_LINK)
            if connection.execute(_TAKE).fetchone()[0]:
                self._connection = connection
                return True
        finally:
            if self._connection is None:
                connection.close()
        return False
