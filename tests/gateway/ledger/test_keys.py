"""API keys: shown once, stored as keyed hashes, ended for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gateway.ledger import accounts, audit, keys
from gateway.ledger.database import Database, metadata
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.settings import Settings

SECRET = bytes(range(32))


def test_a_key_is_found_by_its_hash_only(settings: Settings, database: Database) -> None:
    """Neither the row nor the bytes of the database hold the key itself."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        key, text = keys.create(connection, SECRET, "app", "tester", 60)
    assert text.startswith(keys.PREFIX)
    assert key.hash == keys.hash_key(SECRET, text)
    assert key.hash != keys.hash_key(bytes(32), text)
    assert text.endswith(key.hint)
    with database.read() as connection:
        assert keys.every(connection) == [key]
        assert audit.recent(connection)[0].detail == {"key": key.id}
        assert text not in str([connection.execute(sa.select(table)).all() for table in metadata.sorted_tables])
    database.close()
    for path in settings.data_dir.glob("*"):
        assert text.encode() not in path.read_bytes()


def test_revoking_twice_keeps_the_first_time(database: Database) -> None:
    """A key ends once, and the audit log says so once."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        key, _text = keys.create(connection, SECRET, "app", "tester")
        first = keys.revoke(connection, key.id, "tester")
        second = keys.revoke(connection, key.id, "tester")
    assert first.revoked is not None
    assert first == second
    with database.read() as connection:
        rows = [row for row in audit.recent(connection) if row.action == "key.revoke"]
        assert [row.changes for row in rows] == [[("revoked", None, to_rfc3339(first.revoked))]]


def test_unknown_names_are_refused(database: Database) -> None:
    """No key for nobody, and no end for a key that is not."""
    with database.write() as connection:
        with pytest.raises(NotFound, match="accounts list"):
            keys.create(connection, SECRET, "nobody", "tester")
        with pytest.raises(NotFound, match="keys list"):
            keys.revoke(connection, "none", "tester")


def test_keys_are_listed_by_account(database: Database) -> None:
    """All, or those of one account, oldest first."""
    with database.write() as connection:
        for name in ("a", "b"):
            accounts.create(connection, accounts.new(name), "tester")
        made = [keys.create(connection, SECRET, name, "tester")[0].id for name in ("a", "b", "a")]
    with database.read() as connection:
        assert [key.id for key in keys.every(connection, "b")] == [made[1]]
        assert {key.id for key in keys.every(connection)} == set(made)


def test_a_scope_comes_back_as_it_was_given(database: Database) -> None:
    """Every bound is kept; a key without bounds has none."""
    scope = keys.Scope(("teacher", "fruit@1"), ("chat.completions",), 500, extensions=True)
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        bounded, _ = keys.create(connection, SECRET, "app", "tester", scope=scope)
        free, _ = keys.create(connection, SECRET, "app", "tester")
    with database.read() as connection:
        assert keys.get(connection, bounded.id) == bounded
        assert keys.get(connection, bounded.id).scope == scope
        assert keys.get(connection, free.id).scope == keys.Scope()


@pytest.mark.parametrize(
    ("scope", "remedy"),
    [
        (keys.Scope(models=()), "leave it out to allow all"),
        (keys.Scope(models=("",)), "models list"),
        (keys.Scope(endpoints=("images",)), "choose from chat.completions"),
        (keys.Scope(maximum_output=0), "give 1 or more"),
    ],
)
def test_a_scope_that_nobody_can_mean_is_refused(database: Database, scope: keys.Scope, remedy: str) -> None:
    """It would lock the key out of everything, so it is said when the key is made."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        with pytest.raises(InvalidValue, match=remedy):
            keys.create(connection, SECRET, "app", "tester", scope=scope)


def test_a_successor_takes_over_what_the_old_key_had(database: Database) -> None:
    """Account, limits, scope, family and the end it was given; the old key ends with its grace. One audit row."""
    scope, end = keys.Scope(("teacher",)), now() + timedelta(days=30)
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        old, text = keys.create(connection, SECRET, "app", "tester", 60, scope=scope, expires=end)
        new, other = keys.rotate(connection, SECRET, old.id, "tester", timedelta(hours=2))
        assert text != other
        assert keys.every(connection) == [keys.get(connection, old.id), new]
        left = keys.get(connection, old.id).expires
        assert left is not None
        assert abs(left - now() - timedelta(hours=2)) < timedelta(minutes=1)
        assert (new.account, new.requests_per_minute, new.scope, new.expires) == ("app", 60, scope, end)
        assert (new.family, new.hash, new.hint) == (old.id, keys.hash_key(SECRET, other), other[-4:])
        newest = audit.recent(connection)[0]
        assert newest.detail == {"key": old.id, "successor": new.id}
        assert newest.changes == [("expires", to_rfc3339(end), to_rfc3339(left))]
        third, _ = keys.rotate(connection, SECRET, new.id, "tester")
        assert third.family == old.id


def test_a_rotation_never_lengthens_the_old_keys_life(database: Database) -> None:
    """A key that was to end within the grace ends then."""
    end = now() + timedelta(hours=1)
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        old, _ = keys.create(connection, SECRET, "app", "tester", expires=end)
        keys.rotate(connection, SECRET, old.id, "tester", timedelta(hours=24))
        assert keys.get(connection, old.id).expires == end


def test_only_the_newest_living_key_is_rotated(database: Database) -> None:
    """A second successor would be a second way in; what has ended stays so."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        old, _ = keys.create(connection, SECRET, "app", "tester")
        new, _ = keys.rotate(connection, SECRET, old.id, "tester")
        with pytest.raises(Forbidden, match=f"rotate its successor {new.id}"):
            keys.rotate(connection, SECRET, old.id, "tester")
        keys.revoke(connection, new.id, "tester")
        for act in (
            lambda: keys.rotate(connection, SECRET, new.id, "tester"),
            lambda: keys.expire(connection, new.id, now() + timedelta(days=1), "tester"),
        ):
            with pytest.raises(Forbidden, match="keys create"):
                act()


def test_an_end_lies_ahead(database: Database) -> None:
    """It may be moved while the key lives; an end that has passed, or none in a lifetime, names the remedy."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        key, _ = keys.create(connection, SECRET, "app", "tester")
        for days in (3, 1):
            end = now() + timedelta(days=days)
            assert keys.expire(connection, key.id, end, "tester").expires == end
        for end in (now(), now() + timedelta(days=4000)):
            with pytest.raises(InvalidValue, match="keys revoke"):
                keys.expire(connection, key.id, end, "tester")
        assert [row.action for row in audit.recent(connection)].count("key.expire") == 2


def test_an_end_is_a_moment_to_the_millisecond() -> None:
    """The key is good until then and not at it."""
    end = datetime(2026, 12, 1, tzinfo=UTC)
    key = keys.Key("id", "app", b"", "", end - timedelta(days=1), expires=end)
    assert not key.is_over(end - timedelta(milliseconds=1))
    assert key.is_over(end)


def test_when_a_key_is_to_end_is_said_in_one_way() -> None:
    """By a length of time or by a moment, and not by both or neither."""
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    assert keys.end_of(None, moment) == moment
    assert abs(keys.end_of(timedelta(hours=1), None) - now() - timedelta(hours=1)) < timedelta(minutes=1)
    for within, at in ((None, None), (timedelta(hours=1), moment)):
        with pytest.raises(InvalidValue, match="one of two"):
            keys.end_of(within, at)
