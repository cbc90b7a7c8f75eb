"""One house at a time serves the students of a control plane, and the right goes on when it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from gateway.ledger.database import Database
from gateway.ledger.serving import FileRight, SessionRight
from tests.control_plane import fresh
from tests.gateway.house.waiting import eventually

HOLD = """
import sys
from gateway.ledger.database import Database
right = Database(sys.argv[1]).right_to_serve()
print(right.held(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """An empty control plane."""
    database = fresh(control_url)
    yield database
    database.close()


def test_one_of_several_has_the_right(database: Database) -> None:
    """Asked again and again it is the first one's, until that gives it up; then it is another's."""
    first, second = database.right_to_serve(), database.right_to_serve()
    assert [first.held(), second.held(), first.held(), second.held()] == [True, False, True, False]
    first.close()
    assert [second.held(), first.held()] == [True, False]
    second.close()
    assert first.held()
    first.close()


def test_a_killed_process_leaves_the_right_to_others(database: Database) -> None:
    """Whatever ended it: nothing says any more that it was the one."""
    right = database.right_to_serve()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, database.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not right.held()
        holder.kill()
    assert eventually(right.held)
    right.close()


def test_a_database_in_memory_is_nobody_elses() -> None:
    """There is no file to lock then."""
    right = Database("sqlite://").right_to_serve()
    assert isinstance(right, FileRight)
    assert right.held()
    right.close()


@pytest.mark.postgresql
def test_a_link_that_is_cut_is_found_out(postgres_database: Database) -> None:
    """Nobody can say then whose the right is; the next question takes it anew, where nobody else has meanwhile."""
    first, second = postgres_database.right_to_serve(), postgres_database.right_to_serve()
    assert isinstance(first, SessionRight)
    for taken_meanwhile in (False, True):
        assert first.held()
        pid = first._connection.info.backend_pid
        with postgres_database.read() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        assert not taken_meanwhile or eventually(second.held)
        with pytest.raises(ConnectionError):
            first.held()
        assert first.held() is not taken_meanwhile
    second.close()
    assert eventually(first.held)
    first.close()


@pytest.mark.postgresql
def test_a_server_that_is_away_says_nothing() -> None:
    """It is no refusal, which would have a house give up its students."""
    with pytest.raises(ConnectionError):
        Database("postgresql+psycopg://safe@127.0.0.1:9/nothing").right_to_serve().held()
