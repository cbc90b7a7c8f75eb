"""What is copied in a backup is enough to go on in another place, or in the same one."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.authentication import ControlFollower
from gateway.ledger import (
    accounts,
    alerts,
    audit,
    backup,
    canaries,
    channels,
    consents,
    declared_uses,
    detector_models,
    drains,
    erasures,
    holds,
    keys,
    limits,
    looks,
    marks,
    opt_outs,
    policies,
    registry,
    retention,
    saved_views,
    secret,
    snapshots,
)
from gateway.ledger import operators as people
from gateway.ledger.backup import back_up, restore
from gateway.ledger.database import Database, open_database
from gateway.ledger.errors import AlreadyExists, Corrupt, Forbidden, InvalidValue, NotFound, SecretLost
from gateway.ledger.identifiers import now
from gateway.settings import Settings
from tests.control_plane import fresh
from tests.gateway.ledger.tampering import tampered
from tests.gateway.ledger.test_registry import student

Tables = dict[str, list[tuple[Any, ...]]]


def make_key(database: Database, settings: Settings, account: str = "app") -> tuple[keys.Key, str]:
    with database.write() as connection:
        if accounts.find(connection, account) is None:
            accounts.create(connection, accounts.new(account), "tester")
        return keys.create(connection, keys.ensure_secret(connection, settings.data_dir), account, "tester")


def furnish(database: Database, settings: Settings) -> None:
    """Put rows into every table."""
    make_key(database, settings)
    with database.write() as connection:
        people.create(connection, "mara", "a password", "tester")
        consents.grant(connection, "app", "tester")
        declared_uses.declare(connection, "app", "evaluation", "tester", 5, now() + timedelta(days=1))
        limits.assign(connection, "account", "app", {"rpm": 7, "usd_day": 2**52}, "tester")
        drains.begin(connection, "http://10.0.0.1:8000", "mara", "new driver")
        alert, _ = alerts.raise_or_update(connection, "app", "high", 0.1 + 0.2, [{"text": "“ü”"}], {"daily": []})
        alerts.decide(connection, alert.id, "suspend", "mara", "harvests")
        registry.add(connection, student("labels", training={"layers": 10}), "tester")
        snapshots.propose(connection, snapshots.new("ab" * 32, "t", "e", "s", "p", "joel", {"rows": {"train": 1}}))
        snapshots.approve(connection, "ab" * 32, "mara", "looked at it")
        retention.assign(connection, "app", "teacher", 7, None, "mara")
        holds.place(connection, "app", "mara", "case 7")
        opt_outs.put(connection, "app", "leaver", "mara")
        policies.create(connection, "strip-high", "strip", "mara", "no log-probabilities in bulk")
        alerts.appeal(connection, alert.id, "mara", "they wrote that it is an evaluation")
        erasure = erasures.begin(connection, "app", "withdrawal", "mara")
        marks.put(connection, marks.Mark(erasure.id, "snapshot", "ab" * 32, 1))
        canaries.ensure(connection, "canary", "mara")
        old, new = (detector_models.DetectorModel(name, name.encode()) for name in ("old", "new"))
        detector_models.adopt(connection, new, old, "mara", "compared for a month", {})
        saved_views.save(connection, "mara", "mine", "assignee=mara")
        looks.note(connection, "mara")
        channels.begin(connection, "slack")


def stored(database: Database) -> Tables:
    """Return every row of every table as it is stored, but for what is each database's own."""
    found = sa.MetaData()
    with database.read() as connection:
        found.reflect(connection)
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in found.sorted_tables
            if table.name not in backup.OWN
        }


def without_log(tables: Tables) -> Tables:
    return {name: rows for name, rows in tables.items() if name not in backup.LOG}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    """An empty control plane on another machine, with a data folder of its own."""
    database = fresh(f"sqlite:///{tmp_path / 'elsewhere' / 'control.sqlite'}")
    yield database
    database.close()


def test_a_restored_copy_is_equal_in_every_row(
    database: Database, settings: Settings, elsewhere: Database, tmp_path: Path
) -> None:
    """Into an empty control plane: all tables, the log with one row more, and the secret that the keys need."""
    furnish(database, settings)
    _, text = make_key(database, settings)
    before = stored(database)
    assert all(before.values())
    made = back_up(database, settings.data_dir, tmp_path / "copy")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in made} == {"control.sqlite": 0o600, "secret": 0o600}
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o700
    done = restore(elsewhere, tmp_path / "elsewhere", tmp_path / "copy", "cli:root")
    assert (done.log_kept, done.faults) == (False, [])
    assert done.rows == sum(map(len, before.values()))
    after = stored(elsewhere)
    assert without_log(after) == without_log(before)
    assert after["audit"][:-1] == before["audit"]
    with elsewhere.read() as connection:
        assert audit.verify(connection).faults == []
        assert audit.recent(connection, limit=1)[0].action == "control.restore"
        pepper = keys.ensure_secret(connection, tmp_path / "elsewhere")
        assert keys.hash_key(pepper, text) in {key.hash for key in keys.every(connection)}


def test_one_database_s_backup_restores_into_the_other(
    elsewhere: Database, database: Database, settings: Settings, tmp_path: Path
) -> None:
    """SQLite's into either: this is how an installation moves to PostgreSQL."""
    there = Settings(data_dir=tmp_path / "elsewhere")
    furnish(elsewhere, there)
    back_up(elsewhere, there.data_dir, tmp_path / "copy")
    restore(database, settings.data_dir, tmp_path / "copy", "cli:root")
    assert without_log(stored(database)) == without_log(stored(elsewhere))
    with database.read() as connection:
        assert audit.verify(connection).faults == []


def test_a_backup_is_of_one_moment(database: Database, settings: Settings, tmp_path: Path) -> None:
    """Others write all the while: an account and the consent that was given with it are both there or neither."""
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            with database.write() as connection:
                consents_of = accounts.create(connection, accounts.new(f"a{number}"), "tester").name
                consents.grant(connection, consents_of, "tester")
            number += 1
            written.set()

    thread = threading.Thread(target=write)
    thread.start()
    written.wait(10)
    try:
        for number in range(3):
            back_up(database, settings.data_dir, tmp_path / f"copy{number}")
    finally:
        stop.set()
        thread.join()
    for number in range(3):
        copy = open_database(f"sqlite:///{tmp_path / f'copy{number}' / 'control.sqlite'}")
        with copy.read() as connection:
            assert {account.name for account in accounts.every(connection)} == set(consents.in_force(connection))
            assert audit.verify(connection).faults == []
        copy.close()


def test_what_is_not_committed_is_not_copied(database: Database, settings: Settings, tmp_path: Path) -> None:
    """A transaction under way neither gets into a backup nor holds it up."""
    make_key(database, settings)
    with database.write() as under_way:
        accounts.create(under_way, accounts.new("not-committed"), "tester")
        back_up(database, settings.data_dir, tmp_path / "copy")
    copy = open_database(f"sqlite:///{tmp_path / 'copy' / 'control.sqlite'}")
    with copy.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["app"]
    copy.close()


def test_a_running_house_is_set_back(database: Database, settings: Settings, tmp_path: Path) -> None:
    """Its workers have the restored state at their next look, and the log says all that was done meanwhile."""
    key, _ = make_key(database, settings)
    before = stored(database)
    back_up(database, settings.data_dir, tmp_path / "copy")
    following = ControlFollower(database.url, 300.0, lambda state: None)
    with database.write() as connection:
        keys.revoke(connection, key.id, "somebody")
        accounts.create(connection, accounts.new("another"), "somebody")
    following.poll()
    assert following.current().keys == {}
    with pytest.raises(Forbidden, match="--replace"):
        restore(database, settings.data_dir, tmp_path / "copy", "cli:root")
    done = restore(database, settings.data_dir, tmp_path / "copy", "cli:root", replace=True)
    assert done.log_kept
    following.poll()
    assert list(following.current().keys) == [key.hash]
    assert list(following.current().accounts) == ["app"]
    assert without_log(stored(database)) == without_log(before)
    with database.read() as connection:
        actions = [row.action for row in audit.recent(connection)]
        assert audit.verify(connection).faults == []
    assert actions == ["control.restore", "account.create", "key.revoke", "key.create", "account.create"]


def test_another_log_is_never_replaced(
    database: Database, settings: Settings, elsewhere: Database, tmp_path: Path
) -> None:
    """A control plane of another history stays as it is, whatever is said."""
    make_key(database, settings)
    back_up(database, settings.data_dir, tmp_path / "copy")
    with elsewhere.write() as connection:
        accounts.create(connection, accounts.new("other"), "tester")
    before = stored(elsewhere)
    with pytest.raises(Forbidden, match="does not go on from the backup's"):
        restore(elsewhere, tmp_path / "elsewhere", tmp_path / "copy", "cli:root", replace=True)
    assert stored(elsewhere) == before
    assert not (tmp_path / "elsewhere" / "secret").exists()


def test_another_secret_is_never_replaced(
    database: Database, settings: Settings, elsewhere: Database, tmp_path: Path
) -> None:
    """A house may run with it: it stays, and nothing is restored beside it."""
    make_key(database, settings)
    back_up(database, settings.data_dir, tmp_path / "copy")
    secret.make(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / "secret").read_bytes()
    with pytest.raises(Forbidden, match="another secret"):
        restore(elsewhere, tmp_path / "elsewhere", tmp_path / "copy", "cli:root")
    assert (tmp_path / "elsewhere" / "secret").read_bytes() == before
    assert stored(elsewhere)["accounts"] == []


def test_a_backup_of_an_earlier_release_is_brought_up_to_date(elsewhere: Database, tmp_path: Path) -> None:
    """Its rows are restored in the present schema, and its file stays as it was."""
    (tmp_path / "old").mkdir()
    old = Database(f"sqlite:///{tmp_path / 'old' / 'control.sqlite'}")
    old.migrate("0001")
    with old.write() as connection:
        connection.execute(sa.text("INSERT INTO accounts VALUES ('app', 0, 'default', 0, NULL, NULL, NULL)"))
    old.close()
    secret.make(tmp_path / "old")
    before = (tmp_path / "old" / "control.sqlite").read_bytes()
    restore(elsewhere, tmp_path / "elsewhere", tmp_path / "old", "cli:root")
    with elsewhere.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["app"]
    assert (tmp_path / "old" / "control.sqlite").read_bytes() == before


def test_a_log_with_faults_is_restored_and_said_to_have_them(
    database: Database, settings: Settings, elsewhere: Database, tmp_path: Path
) -> None:
    """It may be the only backup there is; its faults are as visible afterwards as before."""
    for name in ("a", "b", "c", "d"):
        make_key(database, settings, name)
    with tampered(database) as connection:
        connection.exec_driver_sql("DELETE FROM audit WHERE number = 3")
    back_up(database, settings.data_dir, tmp_path / "copy")
    done = restore(elsewhere, tmp_path / "elsewhere", tmp_path / "copy", "cli:root")
    with elsewhere.read() as connection:
        again = audit.verify(connection).faults
    assert [fault.text for fault in done.faults] == [fault.text for fault in again] == ["row 3 is missing"]


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


def test_what_is_cut_short_is_no_backup(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full leaves no folder behind."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "_copy", full)
    with pytest.raises(OSError, match="No space"):
        back_up(database, settings.data_dir, tmp_path / "copies" / "copy")
    assert list((tmp_path / "copies").iterdir()) == []


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A backup of a control plane with a key."""
    there = Settings(data_dir=tmp_path / "source")
    database = fresh(there.database_url)
    make_key(database, there)
    back_up(database, there.data_dir, tmp_path / "copy")
    database.close()
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda copy: (copy / "control.sqlite").unlink(), NotFound),
        (lambda copy: (copy / "secret").unlink(), SecretLost),
        (lambda copy: (copy / "secret").write_bytes(bytes(32)), SecretLost),
        (lambda copy: (copy / "control.sqlite").write_bytes(b""), Corrupt),
        (lambda copy: (copy / "control.sqlite").write_bytes(b"no database " * 1000), Corrupt),
        (lambda copy: _cut(copy / "control.sqlite"), Corrupt),
        (lambda copy: _strange(copy / "control.sqlite"), Corrupt),
    ],
)
def test_what_is_no_whole_backup_changes_nothing(whole: Path, elsewhere: Database, damage: Any, error: Any) -> None:
    """A part missing, damaged or of something else: an error of our own, and the control plane as it was."""
    damage(whole)
    with pytest.raises(error):
        restore(elsewhere, whole.parent / "elsewhere", whole, "cli:root")
    assert not any(rows for name, rows in stored(elsewhere).items() if name != "audit_head")
    assert not (whole.parent / "elsewhere" / "secret").exists()


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _strange(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    other.close()


def test_a_newer_release_s_backup_is_refused(whole: Path, elsewhere: Database) -> None:
    """What it means is not known here; the error says which release to run."""
    with sqlite3.connect(whole / "control.sqlite") as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")
    copy.close()
    with pytest.raises(InvalidValue, match="run the newer release"):
        restore(elsewhere, whole.parent / "elsewhere", whole, "cli:root")
    assert stored(elsewhere)["accounts"] == []
