"""API keys: shown once, stored as keyed hashes, ended for ever."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger import accounts, audit, keys
from gateway.ledger.database import Database
from gateway.ledger.errors import Corrupt, NotFound
from gateway.settings import Settings
from tests.conftest import ROOT

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
    database.close()
    for path in settings.data_dir.iterdir():
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
        assert [row.action for row in audit.recent(connection)].count("key.revoke") == 1


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


def test_the_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """The same 32 bytes for everyone who asks, readable by the owner alone."""
    secret = keys.installation_secret(tmp_path / "new")
    assert len(secret) == 32
    assert keys.installation_secret(tmp_path / "new") == secret
    assert stat.S_IMODE((tmp_path / "new" / "secret").stat().st_mode) == 0o600


def test_a_damaged_secret_is_said(tmp_path: Path) -> None:
    """A secret of another length can't be replaced in silence: no key would be valid any more."""
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(Corrupt, match="restore it from a backup"):
        keys.installation_secret(tmp_path)


def test_processes_that_start_together_share_the_secret(tmp_path: Path) -> None:
    """Of several that find none, one makes it and the others read it whole."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom gateway.ledger.keys import installation_secret\n"
        "print(len({installation_secret(Path(sys.argv[1]) / str(n)) for n in range(60)}))\n"
        "print(b''.join(installation_secret(Path(sys.argv[1]) / str(n)) for n in range(60)).hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _process in range(2)]
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(outputs) == 1
