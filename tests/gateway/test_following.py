"""How a process follows the control plane: within a second, through restarts, restores and cut links."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.authentication import ControlFollower, authenticate
from gateway.errors import NoControlState, Unauthenticated
from gateway.ledger import keys, watching
from gateway.ledger.control import ControlState
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from tests.control_plane import fresh
from tests.gateway.keyed import SECRET, furnished, head, make_key
from tests.postgresql import PostgresServer


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """A control plane with one account."""
    database = furnished(control_url)
    yield database
    database.close()


def follower(database: Database, max_age_s: float = 300.0) -> ControlFollower:
    return ControlFollower(database.url, max_age_s, lambda state: None)


@contextmanager
def started(following: ControlFollower) -> Iterator[ControlFollower]:
    """Have it follow until the end of the block."""
    following.start()
    try:
        yield following
    finally:
        following.stop()


def soon(is_so: Callable[[], bool], within_s: float = 1.0) -> float:
    """Wait until something is so, within a second unless said otherwise; return how long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() < began + within_s
        time.sleep(0.005)
    return time.monotonic() - began


def test_a_revoked_key_is_unknown_at_the_next_poll(database: Database) -> None:
    """Revocation reaches memory with the next look at the revision."""
    key, text = make_key(database)
    following = follower(database)
    following.poll()
    authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())
    with database.write() as connection:
        keys.revoke(connection, key.id, "test")
    following.poll()
    with pytest.raises(Unauthenticated):
        authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())


def test_without_a_first_state_nothing_is_decided(tmp_path: Path) -> None:
    """A worker whose control plane is not there yet says 503, never 401, and makes no empty one."""
    path = tmp_path / "absent" / "control.sqlite"
    following = ControlFollower(f"sqlite:///{path}", 300.0, lambda state: None)
    following.poll()
    with pytest.raises(NoControlState):
        following.current()
    assert not path.exists()


def _delete(path: Path) -> None:
    path.unlink()


def _overwrite(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"this is no database at all, and never was one" * 100)


def _empty(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize("destroy", [_delete, _overwrite, _empty])
def test_a_dead_control_plane_serves_its_last_state_for_a_time(tmp_path: Path, destroy: Callable[[Path], None]) -> None:
    """Deleted, destroyed or empty: keys go on working until the state is too old, and then it is 503, not 401."""
    database = furnished(f"sqlite:///{tmp_path / 'control.sqlite'}")
    _, text = make_key(database)
    following = follower(database, max_age_s=0.3)
    following.poll()
    database.close()
    path = Path(database.url.removeprefix("sqlite:///"))
    for extra in ("-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    destroy(path)
    following.poll()
    account = authenticate(head(f"Bearer {text}"), SECRET, following.current(), now()).account
    assert account.name == "acme"
    time.sleep(0.35)
    following.poll()
    with pytest.raises(NoControlState):
        following.current()


def test_a_control_plane_that_comes_back_is_followed_again(tmp_path: Path) -> None:
    """A restored file is read anew, although the old one was still open."""
    database = furnished(f"sqlite:///{tmp_path / 'control.sqlite'}")
    following = follower(database)
    following.poll()
    path = tmp_path / "control.sqlite"
    database.close()
    path.rename(tmp_path / "aside")
    following.poll()
    (tmp_path / "aside").rename(tmp_path / "copy")
    (tmp_path / "control.sqlite").write_bytes((tmp_path / "copy").read_bytes())
    restored = fresh(database.url)
    _, text = make_key(restored)
    following.poll()
    assert authenticate(head(f"Bearer {text}"), SECRET, following.current(), now()).account.name == "acme"


def test_another_control_plane_of_the_same_revision_is_noticed(tmp_path: Path) -> None:
    """What came back in a control plane's place is read, although the revision says that nothing was written."""
    files = [tmp_path / name / "control.sqlite" for name in ("first", "second")]
    databases = [furnished(f"sqlite:///{file}") for file in files]
    made = [make_key(database)[0] for database in databases]
    assert databases[0].revision() == databases[1].revision()
    following = follower(databases[0])
    following.poll()
    assert list(following.current().keys) == [made[0].hash]
    for database in databases:
        database.close()
    for extra in ("-wal", "-shm"):
        Path(f"{files[0]}{extra}").unlink(missing_ok=True)
    files[1].replace(files[0])
    following.poll()
    assert list(following.current().keys) == [made[1].hash]


def test_the_thread_follows_and_reports(database: Database) -> None:
    """States reach memory within a second of the write, each also given to `on_load`."""
    seen: list[ControlState] = []
    with started(ControlFollower(database.url, 300.0, seen.append)) as following:
        _, text = make_key(database)
        soon(lambda: len(following.current().keys) == 1)
        assert seen[-1] is following.current()
        assert authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())


def test_models_that_fail_do_not_hold_up_a_revocation(database: Database) -> None:
    """Keys are read anew even when what else is made of the control state can't be."""
    key, text = make_key(database)

    def fail(state: ControlState) -> None:
        raise KeyError("a student that nobody can load")

    following = ControlFollower(database.url, 300.0, fail)
    following.poll()
    authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())
    with database.write() as connection:
        keys.revoke(connection, key.id, "test")
    following.poll()
    assert following.current().keys == {}


@pytest.fixture
def link(postgres: PostgresServer) -> Iterator[Database]:
    """A control plane with one account on the server."""
    database = furnished(postgres.url("link", template="migrated"))
    yield database
    database.close()
    postgres.drop("link")


def cut(postgres: PostgresServer, statement: str = "%") -> int:
    """End the server's side of the links to `link` whose last statement is like that; return how many there were."""
    ended = postgres.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'link' "
        f"AND backend_type = 'client backend' AND query LIKE '{statement}'"
    )
    return len(ended)


def backends(postgres: PostgresServer) -> int:
    rows = postgres.execute("SELECT 1 FROM pg_stat_activity WHERE datname = 'link' AND backend_type = 'client backend'")
    return len(rows)


@pytest.mark.postgresql
def test_postgresql_s_notice_wakes_the_follower(link: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is known at once, long before the next look would be due."""
    monkeypatch.setattr(watching, "LISTEN_S", 30.0)
    following = follower(link)
    with started(following):
        for count in (1, 2, 3):
            make_key(link)
            soon(lambda count=count: len(following.current().keys) == count, within_s=2.0)  # type: ignore[misc]
        with link.write():
            following._stop.set()  # the last notice ends the wait, so that the thread need not be waited for


@pytest.mark.postgresql
def test_a_write_that_nobody_was_told_of_is_found(link: Database) -> None:
    """The revision alone is enough: what moved it without a notice is loaded within a second."""
    key, _ = make_key(link)
    with started(follower(link)) as following:
        assert len(following.current().keys) == 1
        with link._engine.begin() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ WRITE")
            connection.exec_driver_sql(f"UPDATE keys SET revoked = 1 WHERE id = '{key.id}'")
            connection.exec_driver_sql("UPDATE revisions SET value = value + 1")
        soon(lambda: not following.current().keys)


@pytest.mark.postgresql
def test_a_cut_link_is_mended_and_nothing_missed(
    link: Database, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Every backend is terminated, again and again: a revocation right after it is known within a second."""
    with started(follower(link)) as following:
        for _ in range(3):
            key, _ = make_key(link)
            soon(lambda: len(following.current().keys) == 1)
            assert cut(postgres) >= 2  # the follower's two at least: it listens on one and loads through the other
            with link.write() as connection:
                keys.revoke(connection, key.id, "test")
            soon(lambda: not following.current().keys)
    password = sa.make_url(link.url).password
    assert password
    assert password not in caplog.text
    assert "control plane unreachable" in caplog.text
    assert "control plane reachable again" in caplog.text


@pytest.mark.postgresql
def test_a_server_that_was_stopped_is_followed_again(link: Database, postgres: PostgresServer) -> None:
    """While it is away the last state serves; a second after it is back, what was written then is known."""
    key, text = make_key(link)
    with started(follower(link)) as following:
        postgres.stop()
        try:
            time.sleep(1.2)
            assert following.age_s > 0.5
            authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())
        finally:
            postgres.start()
        with link.write() as connection:
            keys.revoke(connection, key.id, "test")
        soon(lambda: not following.current().keys)
        assert following.age_s < 1.0


@pytest.mark.postgresql
def test_a_follower_lets_go_of_its_connections(link: Database, postgres: PostgresServer) -> None:
    """Two connections while it follows, however often it loads, and none afterwards."""
    link.close()
    before = backends(postgres)
    with started(follower(link)) as following:
        for count in range(1, 6):
            make_key(link)
            soon(lambda count=count: len(following.current().keys) == count)  # type: ignore[misc]
        link.close()
        soon(lambda: backends(postgres) == before + 2)
    soon(lambda: backends(postgres) == before)
