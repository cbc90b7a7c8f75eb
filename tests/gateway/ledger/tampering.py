"""What somebody does to the audit log who may do everything to the database: triggers off, rows changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from gateway.ledger.database import Database
from gateway.ledger.engines import WRITE


@contextmanager
def tampered(database: Database) -> Iterator[sa.Connection]:
    """Open a write transaction in which nothing keeps rows of the audit log from being changed."""
    with database.write() as connection:
        _lift(connection)
        yield connection


@contextmanager
def undone(database: Database) -> Iterator[sa.Connection]:
    """Open such a transaction and roll it back at the end of the block."""
    with database._engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin() as change:
        _lift(connection)
        yield connection
        change.rollback()


def _lift(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        return
    for name in connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
