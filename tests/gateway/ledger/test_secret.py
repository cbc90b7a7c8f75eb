"""The installation's secret: made once, kept private, and never made anew under keys that need the old one."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger import accounts, keys, secret
from gateway.ledger.database import Database
from gateway.ledger.errors import SecretLost
from gateway.settings import Settings
from tests.conftest import ROOT


def ensure(database: Database, data_dir: Path) -> bytes:
    with database.read() as connection:
        return keys.ensure_secret(connection, data_dir)


def make_key(database: Database, data_dir: Path) -> tuple[keys.Key, str]:
    with database.write() as connection:
        if accounts.find(connection, "app") is None:
            accounts.create(connection, accounts.new("app"), "tester")
        return keys.create(connection, keys.ensure_secret(connection, data_dir), "app", "tester")


def test_it_is_made_once_and_kept_private(database: Database, tmp_path: Path) -> None:
    """The same 32 bytes for everyone who asks, readable by the owner alone; reading makes none."""
    with pytest.raises(SecretLost, match="is missing"):
        secret.read(tmp_path / "new")
    made = ensure(database, tmp_path / "new")
    assert len(made) == 32
    assert ensure(database, tmp_path / "new") == secret.read(tmp_path / "new") == made
    assert stat.S_IMODE((tmp_path / "new" / "secret").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret"]


def test_its_name_tells_secrets_apart_and_says_nothing() -> None:
    """Equal secrets have equal names; the name holds no byte sequence of the secret."""
    one, other = bytes(range(32)), bytes(32)
    assert secret.name_of(one) == secret.name_of(one) != secret.name_of(other)
    assert len(secret.name_of(one)) == 16


@pytest.mark.parametrize("content", [None, b"short", bytes(32)])
def test_a_lost_secret_is_said(database: Database, settings: Settings, content: bytes | None) -> None:
    """Missing, damaged or another installation's: none is made, the file stays as it is, and the remedy is named."""
    made = make_key(database, settings.data_dir)
    path = settings.data_dir / "secret"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretLost, match="restore it from the backup"):
        ensure(database, settings.data_dir)
    with pytest.raises(SecretLost):
        make_key(database, settings.data_dir)
    assert (path.read_bytes() if path.exists() else None) == content
    with database.write() as connection:
        assert [key.id for key in keys.every(connection)] == [made[0].id]


def test_once_no_key_needs_it_a_new_one_is_made(database: Database, settings: Settings) -> None:
    """The way out of a secret lost for good: every key is revoked, and new ones are made."""
    key, text = make_key(database, settings.data_dir)
    (settings.data_dir / "secret").unlink()
    with database.write() as connection:
        keys.revoke(connection, key.id, "tester")
    assert keys.hash_key(ensure(database, settings.data_dir), text) != key.hash
    make_key(database, settings.data_dir)


@pytest.mark.slow
def test_processes_that_start_together_share_it(tmp_path: Path) -> None:
    """Of several that find none, one makes it and the others read it whole."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom gateway.ledger import secret\n"
        "folders = [Path(sys.argv[1]) / str(n) for n in range(60)]\n"
        "for folder in folders: secret.make(folder)\n"
        "print(len({secret.read(folder) for folder in folders}))\n"
        "print(b''.join(map(secret.read, folders)).hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _process in range(2)]
    outputs = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(outputs) == 1
