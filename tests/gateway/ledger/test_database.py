"""The control plane's database: its schema, its revision, and several processes at once."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.ledger import (
    accounts,
    alerts,
    audit,
    consents,
    control,
    declared_uses,
    holds,
    marks,
    operators,
    retention,
    snapshots,
)
from gateway.ledger.database import MIGRATIONS, Database, Json, UtcTime, metadata, newest_version, open_database
from gateway.ledger.errors import AlreadyExists
from gateway.settings import Settings
from tests.conftest import ROOT


def test_migrations_make_the_schema_that_the_code_uses(database: Database) -> None:
    """Every table, column, index and key that the modules declare is what the migrations build, and nothing else."""
    # Importing a module declares its tables; control brings those of keys, enforcement and the registry.
    assert all(module.__doc__ for module in (control, declared_uses, holds, marks, operators, retention, snapshots))
    assert len(metadata.tables) == 18
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    assert differences == []


def test_a_migrations_number_is_its_version() -> None:
    """So that the newest one is known without loading them, by every command that finds the schema in place."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_current_head() == newest_version()
    assert all(Path(script.path).name.startswith(f"{script.revision}_") for script in scripts.walk_revisions())


def test_opening_again_keeps_what_is_there(settings: Settings, database: Database) -> None:
    """Migrating a database that is up to date changes nothing, not even its revision."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    again = open_database(settings.database_url)
    assert again.revision() == 1
    with again.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["app"]
    again.close()


def test_a_folder_with_odd_characters_opens(tmp_path: Path) -> None:
    """The path of the data folder is nobody's syntax."""
    open_database(f"sqlite:///{tmp_path / '100% full & more' / 'control.sqlite'}").close()


def test_each_write_moves_the_revision(database: Database) -> None:
    """One step for a transaction, however much it wrote; none for one that failed, and none for reading."""
    assert database.revision() == 0
    with database.write() as connection:
        accounts.create(connection, accounts.new("a"), "tester")
        accounts.create(connection, accounts.new("b"), "tester")
    assert database.revision() == 1
    with pytest.raises(AlreadyExists), database.write() as connection:
        _create_twice(connection, "c")
    assert database.revision() == 1
    with database.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["a", "b"]


def test_reading_sees_one_moment(settings: Settings, database: Database) -> None:
    """A read transaction does not see what another connection writes in its midst."""
    other = open_database(settings.database_url)
    with database.read() as connection:
        assert accounts.every(connection) == []
        with other.write() as writing:
            accounts.create(writing, accounts.new("app"), "tester")
        assert accounts.every(connection) == []
    with database.read() as connection:
        assert len(accounts.every(connection)) == 1
    other.close()


def test_references_are_enforced(database: Database) -> None:
    """No consent without its account."""
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        consents.grant(connection, "nobody", "tester")
    with database.read() as connection:
        assert audit.recent(connection) == []


def _create_twice(connection: sa.Connection, name: str) -> None:
    accounts.create(connection, accounts.new(name), "tester")
    accounts.create(connection, accounts.new(name), "tester")


_WRITER = """
import sys
from gateway.ledger import accounts, alerts
from gateway.ledger.database import open_database

database = open_database(sys.argv[1])
for number in range(25):
    with database.write() as connection:
        accounts.create(connection, accounts.new(f"{sys.argv[2]}{number}"), "tester")
        alerts.raise_or_update(connection, f"{sys.argv[2]}{number}", "low", 0.1, [], {})
"""


@pytest.mark.slow
def test_processes_open_and_write_at_once(settings: Settings) -> None:
    """Two processes that find no database make it together; then every write of each is there, and counted once."""
    settings.data_dir.mkdir()
    command = [sys.executable, "-c", _WRITER, settings.database_url]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("x", "y")]
    assert [process.wait() for process in processes] == [0, 0]
    database = open_database(settings.database_url)
    assert database.revision() == 50
    with database.read() as connection:
        names = {account.name for account in accounts.every(connection)}
        assert names == {f"{name}{number}" for name in "xy" for number in range(25)}
        assert len(alerts.every(connection)) == 50
        assert len(audit.recent(connection, limit=1000)) == 50
    database.close()


_KILLED = """
import os, signal, sys
from gateway.ledger import accounts
from gateway.ledger.database import open_database

database = open_database(sys.argv[1])
with database.write() as connection:
    accounts.create(connection, accounts.new("whole"), "tester")
with database.write() as connection:
    accounts.create(connection, accounts.new("half"), "tester")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_no_half_and_no_lock(settings: Settings) -> None:
    """A process killed within a transaction leaves what it had committed, and others write on at once."""
    settings.data_dir.mkdir()
    assert (
        subprocess.run([sys.executable, "-c", _KILLED, settings.database_url], cwd=ROOT, check=False).returncode == -9
    )
    database = open_database(settings.database_url)
    with database.write() as connection:
        accounts.create(connection, accounts.new("next"), "tester")
    with database.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["next", "whole"]
    assert database.revision() == 2
    database.close()


def test_times_are_kept_to_the_millisecond_in_utc() -> None:
    """A time of any zone comes back as the same moment in UTC; NULL stays NULL."""
    kind, dialect = UtcTime(), sa.create_engine("sqlite://").dialect
    moment = datetime(2026, 11, 24, 11, 30, 0, 125_000, timezone(timedelta(hours=2)))
    stored = kind.process_bind_param(moment, dialect)
    assert stored == 1_795_512_600_125
    assert kind.process_result_value(stored, dialect) == datetime(2026, 11, 24, 9, 30, 0, 125_000, UTC)
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) is None


def test_every_millisecond_survives() -> None:
    """No time is rounded away from what was written, whichever of a second's milliseconds it is."""
    kind, dialect = UtcTime(), sa.create_engine("sqlite://").dialect
    for millisecond in range(1000):
        moment = datetime(2026, 11, 24, 9, 30, 0, millisecond * 1000, UTC)
        assert kind.process_result_value(kind.process_bind_param(moment, dialect), dialect) == moment


def test_equal_documents_are_equal_bytes() -> None:
    """JSON is stored in one form, whatever the order of its keys."""
    kind, dialect = Json(), sa.create_engine("sqlite://").dialect
    assert kind.process_bind_param({"b": 1, "a": [None]}, dialect) == '{"a":[null],"b":1}'
    assert kind.process_result_value('{"a":[null],"b":1}', dialect) == {"a": [None], "b": 1}
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) is None
