"""What differs between SQLite and PostgreSQL: how to connect, and how a transaction begins.

On both, write transactions exclude each other from their beginning (SQLite: `BEGIN IMMEDIATE`; PostgreSQL: a lock that
the transaction holds), so that what a writer has read is still so when it writes. A read transaction sees one moment
and holds up no writer.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

BUSY_MS = 10_000  # how long a writer of SQLite waits for its turn
WRITE = "spiritsafe_write"  # the execution option of a connection whose transactions write
_LOCK = int.from_bytes(b"spirits", "big")  # PostgreSQL's advisory locks are named by integers
_BEGIN_WRITE = (
    # A writer that hangs, or whose machine is gone, must not stop the others for ever.
    "SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; "
    # The server's own end of the link, whose defaults are hours: a lost writer lets go before others give up.
    "SET LOCAL tcp_user_timeout = 3000; SET LOCAL tcp_keepalives_idle = 3; "
    "SET LOCAL tcp_keepalives_interval = 1; SET LOCAL tcp_keepalives_count = 3; "
    f"SELECT pg_advisory_xact_lock({_LOCK})"
)
_PATIENCE_S, _PAUSE_S = 10.0, 0.005  # for tables that readers hold
_BEGIN_READ = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Milliseconds and seconds: a link that was cut without a word is noticed by whoever waits on it.
_LINK = {
    "connect_timeout": 3,
    "tcp_user_timeout": 3000,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "application_name": "spiritsafe",
}


def make_engine(url: str) -> sa.Engine:
    """Return an engine on a control plane; it connects when it is first used."""
    parsed = sa.make_url(url)
    # An error must not quote what was to be written: hashes of passwords and keys among it.
    if parsed.get_backend_name() != "postgresql":
        engine = sa.create_engine(parsed, hide_parameters=True)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    link = {name: value for name, value in _LINK.items() if name not in parsed.query}
    # Statements are not prepared on the server: a migration would break them, and a pooler loses them.
    link["prepare_threshold"] = None
    engine = sa.create_engine(parsed, hide_parameters=True, connect_args=link, pool_pre_ping=True)
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def contains(connection: sa.Connection, column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column has a text in it, taken as it is, in any case (on SQLite of ASCII letters).

    SQLite's LIKE pays no heed to case by itself; `lower` of both sides, as of SQLAlchemy, takes three times as long.
    """
    pattern = "%" + text.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"
    if connection.dialect.name == "postgresql":
        return column.ilike(pattern, escape="/")
    return column.like(pattern, escape="/")


def is_true(connection: sa.Connection, document: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """Return the condition that a JSON object, kept as text, has `true` under a name."""
    text = sa.type_coerce(document, sa.Text)
    if connection.dialect.name == "postgresql":
        return sa.cast(sa.cast(text, sa.JSON).op("->")(sa.literal(name, sa.Text)), sa.Text) == "true"
    return sa.func.json_type(text, f'$."{name}"') == "true"


def take_tables(connection: sa.Connection) -> None:
    """Keep readers from all tables at once, on PostgreSQL, until the transaction ends; an error after ten seconds.

    Taken one by one while workers read several, they and a migration could wait for each other. Nothing is waited for
    while something is held, so that cannot be.
    """
    names = ", ".join(f'"{name}"' for name in sa.inspect(connection).get_table_names())
    if connection.dialect.name != "postgresql" or not names:
        return
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE NOWAIT")
        except sa.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling begins too late for BEGIN IMMEDIATE; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    connection.exec_driver_sql(_BEGIN_WRITE if _writes(connection) else _BEGIN_READ)


def _writes(connection: sa.Connection) -> bool:
    return bool(connection.get_execution_options().get(WRITE))
