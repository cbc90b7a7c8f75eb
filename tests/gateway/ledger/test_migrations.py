"""Every released schema goes forward with its rows in it, under workers that read it meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.authentication import ControlFollower
from gateway.errors import NoControlState
from gateway.ledger import (
    accounts,
    alerts,
    audit,
    canaries,
    channels,
    consents,
    control,
    declared_uses,
    detector_models,
    drains,
    enforcement,
    holds,
    keys,
    limits,
    looks,
    marks,
    operators,
    opt_outs,
    policies,
    registry,
    retention,
    saved_views,
    snapshots,
)
from gateway.ledger.database import MIGRATIONS, Database, metadata, newest_version, open_database
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import uuid7
from tests.conftest import ROOT
from tests.gateway.ledger.released import insert, rows_of
from tests.gateway.test_following import soon, started
from tests.postgresql import PostgresServer

EARLIER = sorted(file.name[:4] for file in MIGRATIONS.glob("versions/[0-9]*.py"))[:-1]
Stored = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any schema."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'control.sqlite'}")
        yield database
        database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid7().replace('-', '')}"
    database = Database(server.url(name))
    yield database
    database.close()
    server.drop(name)


def at(database: Database, version: str) -> Database:
    """Bring a database to an earlier schema, with the rows of its day."""
    database.migrate(version)
    with database.write() as connection:
        insert(connection, rows_of(version))
    return database


class OldWorker:
    """What a worker of an earlier release does: it reads the tables by the columns that it knows."""

    def __init__(self, database: Database) -> None:
        self._database = Database(database.url)
        found = sa.MetaData()
        with self._database.read() as connection:
            found.reflect(connection)
        self._tables = [table for table in found.sorted_tables if table.name not in ("alembic_version", "revisions")]
        self.first = self.read()
        self.reads = 0
        self.wrong: list[object] = []

    def read(self, *names: str) -> Stored:
        """Return the rows of all tables, or of those named, as they are stored."""
        with self._database.read() as connection:
            return {
                table.name: [
                    dict(row)
                    for row in connection.execute(
                        sa.select(table).order_by(*(table.c[name] for name in ("id", "name") if name in table.c))
                    ).mappings()
                ]
                for table in self._tables
                if not names or table.name in names
            }

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Read what authenticates and admits, on and on, until the end of the block."""
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._database.close()

    def _work(self, stop: threading.Event) -> None:
        wanted = ("keys", "accounts", "enforcement", "registry")
        while not stop.is_set():
            try:
                found = self.read(*wanted)
            except sa.exc.SQLAlchemyError as error:
                self.wrong.append(error)
            else:
                self.wrong += [name for name in wanted if found[name] != self.first[name]]
            self.reads += 1


def test_there_are_earlier_schemas() -> None:
    """Or the tests below would test nothing."""
    assert EARLIER[0] == "0001"
    assert newest_version() not in EARLIER


@pytest.mark.parametrize("version", EARLIER)
def test_every_released_schema_goes_forward_under_its_workers(empty: Database, version: str) -> None:
    """No row is lost or changed; old workers read on, and new ones have the state within a second."""
    database = at(empty, version)
    worker = OldWorker(database)
    following = ControlFollower(database.url, 300.0, lambda state: None)
    with worker.at_work(), started(following):
        soon(lambda: worker.reads > 2, within_s=10.0)
        open_database(database.url).close()
        soon(lambda: _knows(following), within_s=2.0)
        reads = worker.reads
        soon(lambda: worker.reads > reads + 2, within_s=10.0)
    assert worker.wrong == []
    assert worker.read() == worker.first
    with database.read() as connection:
        _check_rows(connection, version)


def _knows(following: ControlFollower) -> bool:
    try:
        state = following.current()
    except NoControlState:
        return False
    return (list(state.accounts), list(state.enforcement)) == (["app", "other"], ["other"])


def _check_rows(connection: sa.Connection, version: str) -> None:
    """Read every table through its module."""
    assert [account.labels for account in accounts.every(connection)] == [None, {"kind": "ü"}]
    first, second = keys.every(connection)
    assert (first.family, first.hash, first.requests_per_minute) == ("k1", b"\x00\xff", 60)
    assert first.scope == (keys.Scope() if version < "0002" else keys.Scope(("teacher",)))
    assert second.revoked is not None
    assert list(consents.in_force(connection)) == ["app"]
    assert [use.use for use in declared_uses.of_account(connection, "app")] == ["evaluation"]
    assert list(enforcement.in_force(connection)) == ["other"]
    assert [alert.score for alert in alerts.every(connection, "confirmed")] == [0.1 + 0.2]
    assert [person.name for person in operators.every(connection)] == ["mara"]
    ((snapshot, approval),) = snapshots.every(connection)
    assert (snapshot.report, approval.note if approval else "") == ({"rows": {"train": 1}}, "looked at it")
    assert registry.get(connection, "labels").parameters == 2**40
    assert [limit.usd_day for limit in limits.every(connection)] == ([] if version < "0003" else [2**52])
    assert [mark.rows for mark in marks.of_erasure(connection, "x1")] == ([] if version < "0006" else [5])
    assert [drain.note for drain in drains.every(connection)] == ([] if version < "0004" else ["new driver"])
    assert accounts.get(connection, "app").keep_text is (version < "0006")
    assert list(holds.in_force(connection)) == ([] if version < "0006" else ["other"])
    (measure,) = enforcement.in_force(connection).values()
    assert (measure.decision_id, measure.at(measure.created)) == ("e1", "suspend")
    assert policies.every(connection) == []
    model = detector_models.in_charge(connection)
    found = (model and model.id, [canary.requests for canary in canaries.every(connection)])
    assert found == ((None, []) if version < "0009" else ("m1", [117]))
    assert opt_outs.every(connection) == (frozenset() if version < "0008" else {("app", "u-17")})


@pytest.mark.parametrize("version", EARLIER)
def test_an_earlier_log_is_chained_as_it_stands(empty: Database, version: str) -> None:
    """In the order it was written, its notes become reasons, and what is written next follows it."""
    database = at(empty, version)
    database.migrate()
    with database.write() as connection:
        assert [(row.number, row.id, row.reason) for row in audit.recent(connection)] == [
            (4, "r4", "to read them"),
            (3, "r3", None),
            (2, "r2", "harvests ü"),
            (1, "r1", None),
        ]
        assert keys.rotate(connection, b"s" * 32, "k1", "mara")[0].family == "k1"
        verdict = audit.verify(connection)
    assert (verdict.rows, verdict.faults) == (5, [])


@pytest.mark.slow
def test_a_log_of_many_rows_is_chained_across_batches(empty: Database) -> None:
    """More rows than are copied at a time, each followed by the next."""
    empty.migrate("0004")
    row = {"actor": "a", "action": "b", "subject": "c", "detail": "{}"}
    with empty.write() as connection:
        rows = [{"id": f"{number:05}", "time": number, **row} for number in range(2500)]
        insert(connection, {"audit": rows})
    empty.migrate()
    with empty.read() as connection:
        verdict = audit.verify(connection)
    assert (verdict.rows, verdict.number, verdict.faults) == (2500, 2500, [])


def test_migrations_make_the_schema_that_the_code_uses(empty: Database) -> None:
    """Every table, column, index and key that the modules declare is what the migrations build, and nothing else."""
    # Importing a module declares its tables; control brings those of keys, enforcement and the registry.
    assert all(
        module.__doc__
        for module in (
            channels,
            control,
            declared_uses,
            holds,
            looks,
            marks,
            operators,
            opt_outs,
            retention,
            saved_views,
            snapshots,
        )
    )
    assert len(metadata.tables) == 28
    empty.migrate()
    with empty.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    assert differences == []


def test_a_migrations_number_is_its_version() -> None:
    """So that the newest one is known without loading them, by every command that finds the schema in place."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_current_head() == newest_version()
    assert all(Path(script.path).name.startswith(f"{script.revision}_") for script in scripts.walk_revisions())


def test_a_newer_schema_is_left_alone(empty: Database) -> None:
    """An older release that is started by mistake says so, and changes nothing."""
    empty.migrate()
    with empty.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidValue, match="run the newer release"):
        open_database(empty.url)


@pytest.mark.slow
def test_processes_migrate_at_once(empty: Database) -> None:
    """Of several that find an earlier schema one brings it forward, and the others find it done."""
    at(empty, "0001")
    code = "import sys; from gateway.ledger.database import open_database; open_database(sys.argv[1]).close()"
    processes = [subprocess.Popen([sys.executable, "-c", code, empty.url], cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    with empty.read() as connection:
        assert audit.verify(connection).rows == 4
