"""What is copied in a backup is enough to go on in another place."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.ledger import accounts, keys
from gateway.ledger.backup import back_up
from gateway.ledger.database import Database, open_database
from gateway.ledger.errors import AlreadyExists, InvalidValue, SecretLost
from gateway.settings import Settings


def make_key(database: Database, settings: Settings) -> tuple[keys.Key, str]:
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        return keys.create(connection, keys.ensure_secret(connection, settings.data_dir), "app", "tester")


def test_a_restored_copy_works(database: Database, settings: Settings, tmp_path: Path) -> None:
    """Its keys are known by the hash that the copied secret makes of them; both files are their owner's alone."""
    key, text = make_key(database, settings)
    with database.write() as under_way:
        accounts.create(under_way, accounts.new("not-committed"), "tester")
        made = back_up(database, settings.data_dir, tmp_path / "copy")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in made} == {"control.sqlite": 0o600, "secret": 0o600}
    restored = open_database(f"sqlite:///{tmp_path / 'copy' / 'control.sqlite'}")
    with restored.read() as connection:
        pepper = keys.ensure_secret(connection, tmp_path / "copy")
        assert {row.hash: row for row in keys.every(connection)}[keys.hash_key(pepper, text)] == key
        assert [account.name for account in accounts.every(connection)] == ["app"]
    restored.close()


def test_no_backup_is_written_over(database: Database, settings: Settings, tmp_path: Path) -> None:
    """A folder that exists is left alone."""
    back_up(database, settings.data_dir, tmp_path / "copy")
    before = (tmp_path / "copy" / "secret").read_bytes()
    with pytest.raises(AlreadyExists, match="name a new folder"):
        back_up(database, settings.data_dir, tmp_path / "copy")
    assert (tmp_path / "copy" / "secret").read_bytes() == before


def test_halves_are_no_backup(database: Database, settings: Settings, tmp_path: Path) -> None:
    """Keys without their secret can't be restored, so nothing is written that looks like a backup."""
    make_key(database, settings)
    (settings.data_dir / "secret").unlink()
    with pytest.raises(SecretLost):
        back_up(database, settings.data_dir, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_another_database_has_its_own_tools(tmp_path: Path) -> None:
    """What is not SQLite is refused with what to do."""
    database = Database("sqlite://")
    with pytest.raises(InvalidValue, match="its own tools"):
        back_up(database, tmp_path, tmp_path / "copy")
