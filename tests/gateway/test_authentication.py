"""Keys and the control state that they are looked up in."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.authentication import ControlFollower, authenticate
from gateway.errors import NoControlState, Unauthenticated
from gateway.ledger import accounts, keys
from gateway.ledger.control import ControlState, load
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from gateway.protocol.head import Head
from tests.control_plane import fresh

SECRET = b"s" * 32


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A control plane with one account."""
    database = fresh(f"sqlite:///{tmp_path / 'control.sqlite'}")
    with database.write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
    return database


def make_key(database: Database) -> tuple[keys.Key, str]:
    with database.write() as connection:
        return keys.create(connection, SECRET, "acme", "test")


def head(value: str) -> Head:
    return Head(b"/v1/chat/completions", [(b"authorization", value.encode())])


def follower(database: Database, max_age_s: float = 300.0) -> ControlFollower:
    return ControlFollower(database.url, max_age_s, lambda state: None)


def test_a_key_names_its_account(database: Database) -> None:
    """A bearer token is looked up by its keyed hash; the scheme's case does not matter."""
    key, text = make_key(database)
    for scheme in ("Bearer", "bearer", "BEARER"):
        found = authenticate(head(f"{scheme} {text}"), SECRET, load(database), now())
        assert (found.account.name, found.key.id) == ("acme", key.id)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Bearer sk-safe-nobody", "Basic YTpi", "Bearer \xff"])
def test_anything_else_is_unauthenticated(database: Database, value: str) -> None:
    """No key, no scheme, an unknown key: 401."""
    make_key(database)
    with pytest.raises(Unauthenticated):
        authenticate(head(value), SECRET, load(database), now())
    with pytest.raises(Unauthenticated):
        authenticate(Head(b"", []), SECRET, load(database), now())


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


def test_a_key_ends_at_the_moment_it_was_told(database: Database) -> None:
    """Between two loads of the state: good a millisecond before its end, 401 with the reason at it."""
    end = now() + timedelta(hours=1)
    with database.write() as connection:
        _, text = keys.create(connection, SECRET, "acme", "test", expires=end)
    state = load(database)
    authenticate(head(f"Bearer {text}"), SECRET, state, end - timedelta(milliseconds=1))
    with pytest.raises(Unauthenticated, match="has expired"):
        authenticate(head(f"Bearer {text}"), SECRET, state, end)


def test_a_rotation_accepts_both_for_the_grace(database: Database) -> None:
    """Old and new until the old one's end, then the new one alone."""
    key, old = make_key(database)
    with database.write() as connection:
        _, new = keys.rotate(connection, SECRET, key.id, "test", timedelta(hours=24))
    state, later = load(database), now() + timedelta(hours=24, seconds=1)
    for text in (old, new):
        authenticate(head(f"Bearer {text}"), SECRET, state, now())
    authenticate(head(f"Bearer {new}"), SECRET, state, later)
    with pytest.raises(Unauthenticated):
        authenticate(head(f"Bearer {old}"), SECRET, state, later)


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
def test_a_dead_control_plane_serves_its_last_state_for_a_time(
    database: Database, destroy: Callable[[Path], None]
) -> None:
    """Deleted, destroyed or empty: keys go on working until the state is too old, and then it is 503, not 401."""
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


def test_a_control_plane_that_comes_back_is_followed_again(database: Database, tmp_path: Path) -> None:
    """A restored file is read anew, although the old one was still open."""
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


def test_the_thread_follows_and_reports(database: Database) -> None:
    """States reach memory within a second of the write, each also given to `on_load`."""
    seen: list[ControlState] = []
    following = ControlFollower(database.url, 300.0, seen.append)
    following.start()
    try:
        _, text = make_key(database)
        deadline = time.monotonic() + 1.0
        while len(following.current().keys) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert seen[-1] is following.current()
        assert authenticate(head(f"Bearer {text}"), SECRET, following.current(), now())
    finally:
        following.stop()


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
