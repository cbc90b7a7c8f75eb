"""Alembic's environment: it migrates the connection that `Database.migrate` hands over, in one transaction."""

from __future__ import annotations

from alembic import context

from gateway.ledger.engines import take_tables

connection = context.config.attributes["connection"]

# The transaction begins before the version is read (SQLite: BEGIN IMMEDIATE), so that of two processes that start
# together the second waits and then finds the schema in place.
with connection.begin():
    take_tables(connection)
    context.configure(connection=connection, transactional_ddl=True)
    context.run_migrations()
