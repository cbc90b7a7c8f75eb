"""How a process learns that the control plane was written to: it asks for the revision, and may be woken to ask.

SQLite tells nobody, so it is asked five times a second. PostgreSQL wakes whoever listens, at once; asking all the same
twice a second is what finds a notice that was missed, a link that was cut, and a server that came back.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import sqlalchemy as sa

POLL_S = 0.2
LISTEN_S = 0.5
CHANNEL = "spiritsafe_revision"
_QUERY = "SELECT value FROM revisions"


class Watch(Protocol):
    """One reader's view of the revision; errors are SQLAlchemy's or a `ConnectionError`."""

    def revision(self) -> int:
        """Return the number of write transactions so far."""
        ...

    def wait(self, stop: threading.Event) -> None:
        """Return when it is time to ask again, or soon after `stop` is set."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Polling:
    """Asks at even intervals."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def revision(self) -> int:
        """Return the number of write transactions so far."""
        with self._engine.connect() as connection:
            return int(connection.exec_driver_sql(_QUERY).scalar_one())

    def wait(self, stop: threading.Event) -> None:
        """Wait for the interval's end."""
        stop.wait(POLL_S)

    def close(self) -> None:
        """Nothing is held between two looks."""


class Listening:
    """Listens on a connection of its own to PostgreSQL, and asks on the same one, so that a dead one is found out."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._failures: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._connection: Any = None  # psycopg's, outside the pool

    def revision(self) -> int:
        """Return the number of write transactions so far; `ConnectionError` where it can't be asked for."""
        try:
            if self._connection is None:
                self._connection = self._listen()
            return int(self._connection.execute(_QUERY).fetchone()[0])
        except self._failures as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def wait(self, stop: threading.Event) -> None:
        """Wait for a notice, at most for the interval; `ConnectionError` when the link breaks meanwhile."""
        if self._connection is None:
            stop.wait(LISTEN_S)
            return
        try:
            for _ in self._connection.notifies(timeout=LISTEN_S, stop_after=1):
                pass
        except self._failures as error:
            self.close()
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _listen(self) -> Any:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        assert connection is not None
        connection.autocommit = True
        connection.execute(f"LISTEN {CHANNEL}")
        return connection
