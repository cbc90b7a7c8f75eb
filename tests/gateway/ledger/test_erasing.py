"""Erasure: hidden at once, gone from the bytes of every file, resumed after a death at any step, stopped by a hold."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from gateway.ledger import (
    accounts,
    alerts,
    audit,
    consents,
    declared_uses,
    durable,
    erasing,
    erasures,
    holds,
    keys,
    limits,
    marks,
    registry,
    snapshot_rows,
    snapshots,
)
from gateway.ledger.database import Database
from gateway.ledger.erasing import STEPS, Surroundings, Unfinished
from gateway.ledger.errors import Forbidden, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.importing import import_traffic
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import maintain, nightly
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.conftest import ROOT
from tests.gateway.ledger.records import begun, record
from tests.gateway.ledger.test_registry import student

SECRET = "the merger is called PROJECT HERON and closes in May"
OTHERS = "what a neighbour asked about herons in May"
QUICK = (1, 4, 7, 9)  # deaths after hiding, after the lake, after the control plane, with the receipt written
DIGEST = "cd" * 32


def private(name: str, **fields: Any) -> dict[str, Any]:
    """A record of the account `app` that says the secret."""
    return record(name, messages=[{"role": "user", "content": f"{SECRET}, {name}"}], **fields)


@pytest.fixture
def around(settings: Settings, database: Database) -> Surroundings:
    """An erasure's surroundings on a machine where no ingester runs."""
    return Surroundings(settings, database, lambda: _ingest(settings), quiet_s=0.0, patience_s=0.0)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.data_dir / "lake" / "traffic")


@pytest.fixture
def house(settings: Settings, database: Database, lake: Lake) -> Iterator[SpoolWriter]:
    """A house with two accounts, one of which has left traces everywhere; its worker lives."""
    with database.write() as connection:
        for name in ("app", "other"):
            accounts.create(connection, accounts.new(name), "tester")
            consents.grant(connection, name, "tester")
            keys.create(connection, b"p" * 32, name, "tester")
        declared_uses.declare(connection, "app", "a use in words", "tester", 5, None)
        limits.assign(connection, "account", "app", {"rpm": 5}, "tester")
        alerts.raise_or_update(connection, "app", "high", 0.9, [{"text": "an alert in words"}], {})
        snapshots.propose(connection, _snapshot(settings))
        registry.add(connection, student("labels", snapshot=DIGEST), "tester")
    lake.append(to_table([private("old"), record("o", account="other", prompt=OTHERS)]))
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    writer.start(begun("a"))
    writer.final(private("a", wire={"request": {"prompt": SECRET}}))
    writer.final(record("b", account="other", prompt=OTHERS))
    (settings.data_dir / "logs").mkdir()
    (settings.data_dir / "logs" / "model-teacher.log").write_text(f"before\nprompt: '{SECRET}, a'\nafter\n")
    (settings.data_dir / "rejected").mkdir()
    refused = {"line": 1, "reason": "x", "text": json.dumps(private("r", status="bad"))}
    (settings.data_dir / "rejected" / "t.jsonl").write_text(json.dumps(refused) + "\n" + '{"line": 2, "text": "x"}\n')
    card = settings.data_dir / "students" / "labels@1" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text("- `app`: 3 rows\n- `other`: 1 rows\n")
    yield writer
    writer.close()


def _snapshot(settings: Settings) -> snapshots.Snapshot:
    folder = settings.data_dir / "snapshots" / DIGEST
    folder.mkdir(parents=True)
    rows = {"id": ["old", "o"], "account": ["app", "other"], "request": [SECRET, OTHERS]}
    pq.write_table(pa.table(rows), folder / "train.parquet")
    (folder / "manifest.json").write_text('{"consents": {"app": {}, "other": {}}}')
    report = {"rows": {"train": 2}, "accounts": {"app": 1, "other": 1}}
    return snapshots.new(DIGEST, "t", "chat.completions", "s", str(folder), "tester", report)


def _ingest(settings: Settings) -> None:
    ingester = Ingester(settings, dict)
    ingester.run_once()
    ingester.close()


def _where(settings: Settings, text: str) -> set[str]:
    """The files in which a text is, as bytes or, in Parquet, as a value."""
    found = set()
    for path in settings.data_dir.rglob("*"):
        if path.is_file() and path.stat().st_size:
            shown = str(path.relative_to(settings.data_dir))
            values = str(pq.read_table(path, partitioning=None).to_pylist()) if path.suffix == ".parquet" else ""
            if text in values or text.encode() in path.read_bytes():
                found.add(shown)
    return found


def test_the_fixture_leaves_traces(settings: Settings, house: SpoolWriter) -> None:
    """What the erasure's tests look for is there before."""
    places = {place.split("/")[0] for place in _where(settings, "PROJECT HERON")}
    assert places == {"lake", "spool", "logs", "rejected", "snapshots"}


def test_nothing_is_left_in_any_file(settings: Settings, around: Surroundings, house: SpoolWriter, lake: Lake) -> None:
    """Neither the text nor the hash of a key; the name as an id only; whoever else was there stays whole."""
    with around.database.read() as connection:
        (key,) = keys.every(connection, "app")
    erasing.erase(around, "app", "mara")
    assert _where(settings, "PROJECT HERON") == set()
    assert not any(key.hash in path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
    places = {path.split("/")[0].partition("-")[0] for path in _where(settings, '"app"')}
    # As an id: in the request with its receipt, the receipt's file, and the snapshot's manifest.
    assert places - {"control.sqlite"} == {"receipts", "snapshots"}
    assert sorted(lake.read(["id"])["id"].to_pylist()) == ["b", "o"]
    assert (settings.data_dir / "logs" / "model-teacher.log").read_text().splitlines()[::2] == ["before", "after"]
    assert (settings.data_dir / "rejected" / "t.jsonl").read_text() == '{"line": 2, "text": "x"}\n'
    (report,) = verify(settings)
    assert report.is_sound
    house.final(record("later", account="other"))
    _ingest(settings)
    assert lake.record("later") is not None


def test_the_control_plane_forgets_and_audit_rows_keep_ids(around: Surroundings, house: SpoolWriter) -> None:
    """No row of the account but the requests and the audit's, which name it and quote nothing; no set has it left."""
    links = [{"accounts": [name, "other"], "channels": ["template", "network"]} for name in ("app", "third")]
    with around.database.write() as connection:
        alerts.raise_or_update(connection, "other", "low", 0.5, [], {"members": ["app", "third"], "links": links})
    erasing.erase(around, "app", "mara")
    with around.database.read() as connection:
        assert [account.name for account in accounts.every(connection)] == ["other"]
        assert {key.account for key in keys.every(connection)} == {"other"}
        assert [alert.accounts for alert in alerts.every(connection)] == [["other", "third"]]
        assert alerts.every(connection)[0].evidence["links"] == links[1:]
        assert limits.every(connection) == []
        rows = audit.recent(connection, subject="app")
        assert set(consents.in_force(connection)) == {"other"}
    assert [row.action for row in rows[:1]] == ["account.erased"]
    assert {"account.erase", "key.revoke", "consent.withdraw"} <= {row.action for row in rows}
    assert "in words" not in str([row.detail for row in rows])


def test_the_receipt_lists_what_held_the_rows(settings: Settings, around: Surroundings, house: SpoolWriter) -> None:
    """Counts, the snapshots and students that are marked now, and the result of the scan; on disk and in the row."""
    done = erasing.erase(around, "app", "mara")
    receipt = json.loads((settings.data_dir / "receipts" / f"{done.id}.json").read_text())
    assert receipt == done.receipt
    assert (receipt["account"], receipt["kind"], receipt["requested_by"], receipt["rows"]) == (
        "app",
        "erasure",
        "mara",
        2,
    )
    assert (receipt["data_dir"], receipt["host"]) == (str(settings.data_dir.resolve()), socket.gethostname())
    assert receipt["snapshots"] == [{"reference": DIGEST, "rows": 1}]
    assert receipt["students"] == [{"reference": "labels@1", "rows": 1}]
    assert receipt["scan"]["found"] == 0
    assert receipt["scan"]["pieces"] >= 2
    with around.database.read() as connection:
        ((mark, erasure),) = marks.of(connection, "student", "labels@1")
    assert (mark.rows, erasure.id) == (1, done.id)


def test_a_snapshot_loses_the_rows_and_says_so(settings: Settings, around: Surroundings, house: SpoolWriter) -> None:
    """The others' rows and the manifest stay."""
    erasing.erase(around, "app", "mara")
    folder = settings.data_dir / "snapshots" / DIGEST
    assert pq.read_table(folder / "train.parquet")["id"].to_pylist() == ["o"]
    assert [entry["rows"] for entry in snapshot_rows.removals(folder)] == [1]


class Killed(BaseException):
    """Stands for a death of the process."""


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(len(STEPS) + 1)]
)
def test_a_death_before_or_after_any_step_is_made_good(
    settings: Settings,
    around: Surroundings,
    house: SpoolWriter,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """From the tombstone on no reader sees a row; the same command ends the work, with the whole count."""

    def dies(_job: Any) -> None:
        raise Killed

    monkeypatch.setattr(erasing, "STEPS", (*STEPS[:number], dies))
    with pytest.raises(Killed):
        erasing.erase(around, "app", "mara")
    monkeypatch.undo()
    if number:
        assert "app" not in lake.read(["account"])["account"].to_pylist()
        assert erasing.under_way(settings) == {"app"}
    done = erasing.erase(around, "app", "mara")
    assert done.receipt is not None
    assert (done.receipt["rows"], done.receipt["snapshots"]) == (2, [{"reference": DIGEST, "rows": 1}])
    assert _where(settings, "PROJECT HERON") == set()
    assert erasing.under_way(settings) == frozenset()
    with around.database.read() as connection:
        assert erasures.under_way(connection, "app", "erasure") is None


def test_a_death_while_it_is_closed_is_made_good(
    settings: Settings, around: Surroundings, house: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the receipt on the disk only the request is left to be closed."""

    def dies(path: Path) -> None:
        raise Killed

    monkeypatch.setattr(durable, "remove", dies)
    with pytest.raises(Killed):
        erasing.erase(around, "app", "mara")
    monkeypatch.undo()
    done = erasing.erase(around, "app", "mara")
    assert done.receipt is not None
    assert done.receipt["rows"] == 2
    assert list((settings.data_dir / "erasures").iterdir()) == []


def test_every_reader_honours_the_tombstone(settings: Settings, lake: Lake) -> None:
    """Reading, following, looking up: no row; the ingester and an import bring none in; verify misses none."""
    lake.append(to_table([private("old"), record("o", account="other")]))
    lake.hide("app")
    assert lake.read(["id"])["id"].to_pylist() == ["o"]
    assert lake.follow(-1, ["id"])[0]["id"].to_pylist() == ["o"]
    assert list(lake.ids()) == [["o"]]
    assert lake.record("old") is None
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    writer.final(private("a"))
    writer.final(record("b", account="other"))
    _ingest(settings)
    writer.close()
    import_traffic([json.dumps(private("i"))], settings)
    assert set(lake.read(["id"], with_erased=True)["id"].to_pylist()) == {"old", "o", "b"}
    (report,) = verify(settings)
    assert (report.is_sound, report.waiting) == (True, 0)


def test_a_hold_stops_it(around: Surroundings, house: SpoolWriter, lake: Lake) -> None:
    """Refused while it stands, with the remedy; placing, stopping and releasing are audited, by ids."""
    with around.database.write() as connection:
        held = holds.place(connection, "app", "mara", "case 7")
    with pytest.raises(Forbidden, match="spiritsafe accounts release app"):
        erasing.erase(around, "app", "mara")
    assert lake.record("old") is not None
    with around.database.write() as connection:
        holds.release(connection, "app", "mara")
    erasing.erase(around, "app", "mara")
    with around.database.read() as connection:
        rows = [row for row in audit.recent(connection, subject="app") if held.id in str(vars(row))]
    assert [row.action for row in rows] == ["account.release", "account.erase_stopped", "account.hold"]
    assert "case 7" not in str(rows)


def test_a_hold_stops_one_that_is_under_way(
    around: Surroundings, house: SpoolWriter, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not gone yet stays, hidden; the release lets it go on."""

    def hold(_job: Any) -> None:
        with around.database.write() as connection:
            holds.place(connection, "app", "mara", "case 7")

    monkeypatch.setattr(erasing, "STEPS", (*STEPS[:2], hold, *STEPS[2:]))
    with pytest.raises(Forbidden):
        erasing.erase(around, "app", "mara")
    monkeypatch.undo()
    assert lake.read(["id"], with_erased=True).num_rows == 2
    assert lake.record("old") is None
    with around.database.write() as connection:
        holds.release(connection, "app", "mara")
    assert erasing.erase(around, "app", "mara").receipt is not None


def test_requests_under_way_are_waited_for(around: Surroundings, house: SpoolWriter, lake: Lake) -> None:
    """A request that began before the keys ended is erased too; until it has ended the erasure has not."""
    house.start(begun("late"))
    with pytest.raises(Unfinished, match="1 requests under way"):
        erasing.erase(around, "app", "mara")
    house.final(private("late"))
    done = erasing.erase(around, "app", "mara")
    assert done.receipt is not None
    assert _late(around) == set()


def _late(around: Surroundings) -> set[str]:
    return {str(path) for path in around.data_dir.rglob("*") if path.is_file() and b"HERON, late" in path.read_bytes()}


def test_a_living_worker_may_still_begin_what_it_let_in(around: Surroundings, house: SpoolWriter) -> None:
    """While one runs, the erasure does not end before the longest time that a request waits for its turn."""
    patient = replace(around, quiet_s=30.0, patience_s=-30.0)
    with pytest.raises(Unfinished, match="s quiet"):
        erasing.erase(patient, "app", "mara")
    house.close()
    assert erasing.erase(patient, "app", "mara").receipt is not None


@pytest.mark.slow
def test_a_living_house_goes_on(settings: Settings, around: Surroundings, house: SpoolWriter, lake: Lake) -> None:
    """With an ingester and a worker at work nobody else's row is lost or doubled, and the erasure ends by itself."""
    ingester, stop = Ingester(settings, dict), threading.Event()
    written: list[str] = []

    def work() -> None:
        while not stop.is_set():
            house.final(record(name := f"busy{len(written)}", account="other"))
            written.append(name)
            time.sleep(0.01)

    threads = [threading.Thread(target=work), threading.Thread(target=ingester.run, args=(stop,))]
    for thread in threads:
        thread.start()
    try:
        done = erasing.erase(replace(around, bring_in=lambda: None, patience_s=60.0), "app", "mara")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    ingester.close()
    assert done.receipt is not None
    ids = lake.read(["id"])["id"].to_pylist()
    assert sorted(ids) == sorted(["b", "o", *written])
    (report,) = verify(settings)
    assert (report.is_sound, report.damaged) == (True, 0)
    assert _where(settings, "PROJECT HERON") == set()


def test_what_is_left_is_found(settings: Settings, around: Surroundings, house: SpoolWriter, lake: Lake) -> None:
    """A copy in a file that nobody thought of fails the proof, by its name; the rows stay hidden."""
    copy = settings.data_dir / "forgotten.bin"
    copy.write_bytes(b"\x00" + f"{SECRET}, old".encode())
    with pytest.raises(Unfinished, match=r"forgotten\.bin \(text\)"):
        erasing.erase(around, "app", "mara")
    assert erasing.under_way(settings) == {"app"}
    copy.unlink()
    assert erasing.erase(around, "app", "mara").receipt is not None


def test_rows_without_an_account_can_be_erased(around: Surroundings, lake: Lake) -> None:
    """Traffic may be imported for a name that was never registered; a name that nothing has is an error."""
    lake.append(to_table([private("old")]))
    erasing.erase(around, "app", "mara")
    assert lake.read(["id"], with_erased=True).num_rows == 0
    with pytest.raises(NotFound, match="accounts list"):
        erasing.erase(around, "app", "mara")


def test_withdrawal_bars_from_training_and_keeps_the_evidence(
    settings: Settings, around: Surroundings, house: SpoolWriter, lake: Lake
) -> None:
    """Consent ends, snapshots lose the rows and are marked, students too; the lake keeps every row and text."""
    done = erasing.withdraw(around, "app", "mara")
    receipt = done.receipt
    assert receipt is not None
    assert (receipt["kind"], receipt["rows"], receipt["scan"]["found"]) == ("withdrawal", 1, 0)
    assert receipt["students"] == [{"reference": "labels@1", "rows": 1}]
    found = lake.record("old")
    assert found is not None
    assert SECRET in str(found["messages"])
    with around.database.read() as connection:
        assert set(consents.in_force(connection)) == {"other"}
        assert accounts.find(connection, "app") is not None
    assert pq.read_table(settings.data_dir / "snapshots" / DIGEST / "train.parquet")["id"].to_pylist() == ["o"]
    # Withdrawn twice and then erased, each request has marks of its own and nothing is counted twice.
    assert erasing.withdraw(around, "app", "mara").receipt is not None
    assert erasing.erase(around, "app", "mara").receipt is not None


@pytest.mark.slow
def test_kills_at_points_nobody_chose(settings: Settings, around: Surroundings, house: SpoolWriter) -> None:
    """kill -9 again and again, later each time: in the end one attempt finishes what all of them began."""
    command = [sys.executable, "-m", "tests.gateway.ledger.erasing_process"]
    command += [str(settings.data_dir), settings.database_url]
    for life in range(12):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        time.sleep(0.02 + 0.04 * life)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with around.database.read() as connection:
        finished = any(erasure.finished for erasure in erasures.every(connection))
    if not finished:
        erasing.erase(around, "app", "mara")
    assert _where(settings, "PROJECT HERON") == set()
    assert erasing.under_way(settings) == frozenset()
    (report,) = verify(settings)
    assert report.is_sound


def test_notes_that_a_killed_attempt_left_half_written_go_too(
    settings: Settings, around: Surroundings, house: SpoolWriter
) -> None:
    """An attempt killed while writing down what to look for leaves a hidden file with texts; the next removes it."""
    with around.database.write() as connection:
        erasure = erasures.begin(connection, "app", "erasure", "mara")
    left = settings.data_dir / "erasures" / f".{erasure.id}.json.4711"
    left.parent.mkdir(parents=True)
    left.write_text("PROJECT HERON")
    erasing.erase(around, "app", "mara")
    assert not left.exists()
    assert _where(settings, "PROJECT HERON") == set()


def test_deleted_rows_leave_no_bytes_in_the_database(settings: Settings, database: Database) -> None:
    """The bytes of 200 rows are in neither the file nor its log, nor in a table's file of PostgreSQL."""
    with database.write() as connection:
        for number in range(200):
            accounts.create(connection, accounts.Account(f"a{number}", now(), payment="HERON" * 100), "tester")
    with database.write() as connection:
        connection.execute(sa.delete(accounts.table))
    assert database.compact()
    assert not any(b"HERON" in path.read_bytes() for path in database.files)
    if database.is_postgresql:
        with database.read() as connection:
            size = connection.scalar(sa.text("SELECT pg_relation_size('accounts')"))
        assert size == 0


def test_a_reader_of_the_log_holds_it_back(settings: Settings, database: Database) -> None:
    """Compacting says that it did not succeed while an old read transaction needs the log, or a table."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    other = Database(settings.database_url)
    with other.read() as connection:
        accounts.every(connection)
        assert not database.compact(patience_s=0.1)
    other.close()
    assert database.compact(patience_s=5.0)


def test_the_night_goes_on_with_what_stopped(
    settings: Settings, around: Surroundings, house: SpoolWriter, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure that died is ended by `traffic maintain`; one on hold is left alone, and adds no row each night."""

    def die(_job: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(erasing, "STEPS", (*STEPS[:3], die))
    with pytest.raises(KeyboardInterrupt):
        erasing.erase(around, "app", "mara")
    monkeypatch.undo()
    with around.database.write() as connection:
        holds.place(connection, "app", "mara", "case 7")
        rows = len(audit.recent(connection))
    assert len(list(maintain(settings, nightly(settings, around, 30)))) == 6
    with around.database.write() as connection:
        assert len(audit.recent(connection)) == rows
        holds.release(connection, "app", "mara")
    assert len(list(maintain(settings, nightly(settings, around, 30)))) == 6
    assert _where(settings, "PROJECT HERON") == set()
    with around.database.read() as connection:
        assert [row.finished is None for row in erasures.every(connection)] == [False]
    assert rehash(settings).is_sound
