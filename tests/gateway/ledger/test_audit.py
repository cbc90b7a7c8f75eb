"""The audit log is only added to, and whatever else happens to it is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.audit import GENESIS
from gateway.ledger.database import Database
from gateway.ledger.errors import Corrupt
from tests.conftest import ROOT
from tests.gateway.ledger.tampering import tampered, undone


def fill(database: Database, rows: int = 6) -> list[audit.AuditRow]:
    """Write rows that say 1, 2, 3, …, each in a transaction of its own."""
    made = []
    for number in range(1, rows + 1):
        with database.write() as connection:
            made.append(audit.record(connection, f"ann{number}", "act", "app", after={"n": number}, reason="because"))
    return made


def verify(database: Database, expect: str | None = None) -> audit.Verdict:
    with database.read() as connection:
        return audit.verify(connection, expect)


def test_a_row_comes_back_as_it_was_written(database: Database) -> None:
    """Who, what, before, after and why; times in documents are RFC 3339, and an empty reason is none."""
    moment = datetime(2026, 11, 24, 9, 30, 0, 125_000, UTC)
    with database.write() as connection:
        first = audit.record(
            connection,
            "ann",
            "key.expire",
            "app",
            before={"end": None, "x": 1},
            after={"end": moment},
            reason="ü",
            k=[1],
        )
        second = audit.record(connection, "ann", "key.revoke", "app", reason="")
    with database.read() as connection:
        assert audit.recent(connection) == [second, first]
    assert first.changes == [("end", None, "2026-11-24T09:30:00.125Z"), ("x", 1, None)]
    assert (first.number, first.reason, first.detail) == (1, "ü", {"k": [1]})
    assert (second.number, second.before, second.after, second.reason, second.changes) == (2, None, None, None, [])


def test_the_newest_come_first(database: Database) -> None:
    """Up to a limit, of one subject, actor or action, in the order they were written."""
    made = fill(database)
    with database.read() as connection:
        assert audit.recent(connection, limit=3) == made[:2:-1]
        assert audit.recent(connection, actor="ann2") == [made[1]]
        assert audit.recent(connection, subject="other") == []
        assert audit.recent(connection, action="act", subject="app", limit=1) == [made[5]]


def test_the_chain_s_form_is_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that anybody can compute from the row alone; logs written today must verify in years."""
    monkeypatch.setattr(audit, "now", lambda: datetime(2026, 11, 24, 9, 30, 0, 125_000, UTC))
    monkeypatch.setattr(audit, "uuid7", lambda: "0199aa10-0000-7000-8000-000000000001")
    with database.write() as connection:
        row = audit.record(connection, "ann", "limits.set", "account:ü", before={"b": 1, "a": None}, reason="x", k=1.5)
    content = [
        GENESIS, 1, "0199aa10-0000-7000-8000-000000000001", 1_795_512_600_125, "ann", "limits.set", "account:ü",
        '{"k":1.5}', '{"a":null,"b":1}', None, "x",
    ]  # fmt: skip
    assert row.hash == hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    assert row.hash.startswith("2b88aabd7c02")


def test_a_log_that_nobody_touched_is_whole(database: Database) -> None:
    """Empty or not; the verdict has the hash that a later verification is to find again."""
    assert verify(database) == audit.Verdict(0, 0, GENESIS)
    first = fill(database, 2)
    verdict = verify(database, GENESIS)
    assert verdict == audit.Verdict(2, 2, first[1].hash)
    fill(database, 3)
    assert verify(database, verdict.hash).faults == []
    assert verify(database, first[0].hash).faults == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET reason = 'another' WHERE number = 2",
        "UPDATE audit SET number = 9 WHERE number = 2",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit",
    ],
)
def test_the_database_refuses_changes(database: Database, statement: str) -> None:
    """Nothing but insertion is possible while the triggers stand."""
    made = fill(database, 3)
    with pytest.raises(sa.exc.DBAPIError, match="only added to"), database.write() as connection:
        connection.exec_driver_sql(statement)
    with database.read() as connection:
        assert audit.recent(connection) == made[::-1]


def test_the_database_refuses_to_replace_or_empty_it(database: Database) -> None:
    """Each database has a way round the triggers of update and deletion; it is closed."""
    made = fill(database, 3)
    copied = "SELECT 2, 'x', time, actor, action, subject, detail, before, after, 'another', hash FROM audit"
    same_id = copied.replace("2, 'x'", "9, id")
    ways = (
        ["TRUNCATE audit"]
        if database.is_postgresql
        else [f"INSERT OR REPLACE INTO audit {source} WHERE number = 3" for source in (copied, same_id)]
    )
    for way in ways:
        with pytest.raises(sa.exc.DBAPIError, match="only added to"), database.write() as connection:
            connection.exec_driver_sql(way)
    with database.read() as connection:
        assert audit.recent(connection) == made[::-1]


TAMPERINGS: list[tuple[list[str], list[int], str]] = [
    (["UPDATE audit SET time = time + 1 WHERE number = 2"], [2], "row 2 (ann2, act, app) is not what was written"),
    (["UPDATE audit SET id = 'x' WHERE number = 2"], [2], "edited, added or moved"),
    (["UPDATE audit SET actor = 'bob' WHERE number = 3"], [3], "row 3 (bob, act, app)"),
    (["UPDATE audit SET action = 'rest' WHERE number = 1"], [1], "row 1"),
    (["UPDATE audit SET subject = 'x' WHERE number = 6"], [6], "row 6"),
    (["""UPDATE audit SET detail = '{"a":1}' WHERE number = 4"""], [4], "row 4"),
    (["""UPDATE audit SET after = '{"n": 4}' WHERE number = 4"""], [4], "row 4"),  # one space more
    (["UPDATE audit SET before = 'null' WHERE number = 4"], [4], "row 4"),
    (["UPDATE audit SET after = NULL WHERE number = 4"], [4], "row 4"),
    (["UPDATE audit SET reason = NULL WHERE number = 4"], [4], "row 4"),
    (["UPDATE audit SET hash = 'x' WHERE number = 4"], [4, 5], "row 4"),
    (["DELETE FROM audit WHERE number = 1"], [1], "row 1 is missing"),
    (["DELETE FROM audit WHERE number IN (3, 4)"], [3], "rows 3 to 4 are missing"),
    (["DELETE FROM audit WHERE number = 6"], [6], "row 6 is missing"),
    (["DELETE FROM audit WHERE number > 4"], [5], "rows 5 to 6 are missing"),
    (["DELETE FROM audit"], [1], "rows 1 to 6 are missing"),
    (
        [
            "UPDATE audit SET number = -number WHERE number IN (2, 3)",
            "UPDATE audit SET number = number + 5 WHERE number < 0",
        ],
        [2, 3, 4],
        "row 2 (ann3, act, app)",
    ),
    (
        [
            "DELETE FROM audit WHERE number = 2",
            *(f"UPDATE audit SET number = {number - 1} WHERE number = {number}" for number in (3, 4, 5, 6)),
            "UPDATE audit_head SET number = 5",
        ],
        [2, 3, 4, 5],
        "row 2 (ann3, act, app)",
    ),
    (
        [
            "INSERT INTO audit SELECT 7, 'x', time, actor, action, subject, detail, before, after, reason, hash "
            "FROM audit WHERE number = 6"
        ],
        [7, 7],
        "row 7",
    ),
    (["UPDATE audit SET number = -1 WHERE number = 6"], [-1, 6], "row -1"),
    (["UPDATE audit_head SET hash = 'x'"], [6], "its head says 6 (x)"),
    (["UPDATE audit_head SET number = 5"], [6], "its head says 5"),
    (["DELETE FROM audit_head"], [6], "the head is missing"),
]


def test_what_was_done_to_it_is_found_and_said_where(database: Database) -> None:
    """A row edited in any column, removed anywhere, put in another's place or added; and a head that lies."""
    fill(database)
    for statements, numbers, text in TAMPERINGS:
        with undone(database) as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            faults = audit.verify(connection).faults
            assert [fault.number for fault in faults] == numbers, statements
            assert text in faults[0].text
    assert verify(database).faults == []


def test_a_log_cut_off_with_its_head_is_found_by_a_hash_kept_elsewhere(database: Database) -> None:
    """It looks whole to itself, and whoever kept the hash of a row that is gone sees that it is not."""
    made = fill(database)
    with tampered(database) as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE number > 4")
        connection.execute(sa.update(audit.head).values(number=4, hash=made[3].hash))
    assert verify(database).faults == []
    assert verify(database, made[3].hash).faults == []
    (fault,) = verify(database, made[5].hash).faults
    assert (fault.number, "cut off" in fault.text) == (4, True)


def test_a_log_without_its_head_takes_no_row(database: Database) -> None:
    """So that nothing is decided that the log can't say."""
    fill(database, 1)
    with tampered(database) as connection:
        connection.execute(sa.delete(audit.head))
    with pytest.raises(Corrupt, match="audit verify"), database.write() as connection:
        audit.record(connection, "ann", "act", "app")


def test_two_transactions_make_one_chain(database: Database) -> None:
    """The second waits for the first to end, whoever opened it and however, and then follows it."""
    fill(database, 1)
    begun, done = threading.Event(), threading.Event()

    def second() -> None:
        begun.set()
        with database._engine.connect().execution_options(spiritsafe_write=True) as connection, connection.begin():
            audit.record(connection, "second", "act", "app")
        done.set()

    thread = threading.Thread(target=second)
    with database.write() as connection:
        thread.start()
        begun.wait()
        audit.record(connection, "first", "act", "app")
        assert not done.wait(0.2)
    thread.join()
    with database.read() as connection:
        assert [row.actor for row in audit.recent(connection)] == ["second", "first", "ann1"]
    assert verify(database).faults == []


@pytest.mark.postgresql
def test_the_head_alone_keeps_the_chain_from_forking(postgres_database: Database) -> None:
    """On PostgreSQL a transaction that took no lock when it began waits at the head's row."""
    done = threading.Event()

    def second() -> None:
        with bare.connect() as connection, connection.begin():
            audit.record(connection, "second", "act", "app")
        done.set()

    bare = sa.create_engine(postgres_database.url)
    thread = threading.Thread(target=second)
    with bare.connect() as connection, connection.begin():
        audit.record(connection, "first", "act", "app")
        thread.start()
        assert not done.wait(0.3)
    thread.join()
    bare.dispose()
    verdict = verify(postgres_database)
    assert (verdict.rows, verdict.faults) == (2, [])


_WRITER = """
import sys
from gateway.ledger import audit
from gateway.ledger.database import open_database

database = open_database(sys.argv[1])
for number in range(40):
    with database.write() as connection:
        for part in range(2):
            audit.record(connection, sys.argv[2], "act", "app", number=number, part=part)
"""


@pytest.mark.slow
def test_processes_that_write_at_once_make_one_chain(database: Database) -> None:
    """Every row of every process is there, those of a transaction side by side, and the chain is whole."""
    command = [sys.executable, "-c", _WRITER, database.url]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("x", "y", "z")]
    assert [process.wait() for process in processes] == [0, 0, 0]
    verdict = verify(database)
    assert (verdict.rows, verdict.faults) == (240, [])
    with database.read() as connection:
        rows = audit.recent(connection, limit=240)[::-1]
    written = [(row.actor, row.detail["number"]) for row in rows]
    assert written[::2] == written[1::2]
