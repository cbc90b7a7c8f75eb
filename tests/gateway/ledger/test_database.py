"""The control plane's database: its schema, its revision, and several processes at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.ledger import accounts, alerts, audit, consents, enforcement, engines
from gateway.ledger.database import Database, Json, UtcTime, open_database
from gateway.ledger.errors import AlreadyExists, InvalidValue, Unreachable
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.control_plane import impose


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


def test_writers_exclude_each_other_from_the_beginning(database: Database) -> None:
    """A second write transaction begins when the first has ended, before either has written or read anything."""
    begun = threading.Event()

    def second() -> None:
        with database.write():
            begun.set()

    thread = threading.Thread(target=second)
    with database.write():
        thread.start()
        assert not begun.wait(0.3)
    thread.join()
    assert begun.is_set()


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
import threading
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
def test_a_killed_writer_leaves_no_half_and_no_lock(database: Database) -> None:
    """A process killed within a transaction leaves what it had committed, and others write on at once."""
    killed = subprocess.run([sys.executable, "-c", _KILLED, database.url], cwd=ROOT, check=False)
    assert killed.returncode == -9
    with database.write() as connection:
        accounts.create(connection, accounts.new("next"), "tester")
    with database.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["next", "whole"]
    assert database.revision() == 2


def test_a_value_that_the_database_can_not_hold_is_refused(database: Database) -> None:
    """SQLite holds a NUL in a text and PostgreSQL does not: an error of our own, and nothing is written."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    note = "before\0after"
    if database.is_postgresql:
        with pytest.raises(InvalidValue, match="can't hold a value"), database.write() as connection:
            impose(connection, "app", "suspend", "mara", note)
    else:
        with database.write() as connection:
            impose(connection, "app", "suspend", "mara", note)
    with database.read() as connection:
        notes = [measure.note for measure in enforcement.in_force(connection).values()]
    assert notes == ([] if database.is_postgresql else [note])


@pytest.mark.postgresql
def test_a_database_that_refuses_us_is_named_without_its_password(postgres_database: Database) -> None:
    """Where it is and why it refuses, and never what we said to it."""
    for url, reason in (
        (postgres_database.url.replace("safe:", "safe:not-"), "password authentication failed"),
        ("postgresql+psycopg://safe:not-told@127.0.0.1:1/none", "refused"),
    ):
        with pytest.raises(Unreachable, match=reason) as caught:
            open_database(url)
        assert "postgresql+psycopg://safe:***@127.0.0.1" in str(caught.value)
        assert "not-" not in str(caught.value)


@pytest.mark.postgresql
def test_a_writer_that_hangs_does_not_hold_up_the_others_for_ever(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL, too, who waits for another's transaction gives up in the end, with an error."""
    monkeypatch.setattr(engines, "_BEGIN_WRITE", engines._BEGIN_WRITE.replace("'10s'", "'100ms'"))
    with (
        postgres_database.write(),
        pytest.raises(sa.exc.OperationalError, match="lock timeout"),
        postgres_database.write(),
    ):
        pass


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
