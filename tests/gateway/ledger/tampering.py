"""What somebody does to the audit log who may do everything to the database: triggers off, rows changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from gateway.ledger.database import Database


@contextmanager
def tampered(database: Database) -> Iterator[sa.Connection]:
    """Open a write transaction in which nothing keeps rows of the audit log from being changed."""
    with database.write() as connection:
        if database.is_postgresql:
            connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER ALL")
        else:
            for name in connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield connection
