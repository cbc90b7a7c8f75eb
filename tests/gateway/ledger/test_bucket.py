"""The lake in a bucket: three machines share it, S3 throttles, errs and hangs, and nothing is lost or doubled."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from gateway.ledger import accounts, erasing, maintenance, retention, rewriting
from gateway.ledger import lake as lakes
from gateway.ledger.database import Database
from gateway.ledger.erasing import Surroundings
from gateway.ledger.errors import LakeUnreachable, LedgerError, NotFound
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter, segments
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import RetentionSettings, Settings
from tests import s3
from tests.control_plane import fresh
from tests.gateway.house.waiting import eventually
from tests.gateway.ledger.records import record

pytestmark = pytest.mark.slow
TOLD = "a sentence that nobody else would ever say, in full"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """moto's server."""
    s3.require()
    with s3.server() as port:
        yield port


@pytest.fixture
def store(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Store]:
    """A bucket of the test's own, with a proxy before it; pauses between tries are short."""
    monkeypatch.setenv("TEST_S3_KEY", s3.KEY_ID)
    monkeypatch.setenv("TEST_S3_SECRET", s3.SECRET)
    monkeypatch.setattr(lakes, "_LONGEST_PAUSE_S", 0.1)
    faults = s3.Faults(port)
    yield s3.Store(port, faults)
    faults.close()


@pytest.fixture
def house(tmp_path: Path, store: s3.Store) -> Callable[..., Settings]:
    """Settings of one of several installations that share the bucket: `lake`, and how to reach it."""

    def settings(name: str = "one", timeout_s: float = 20.0, **fields: Any) -> Settings:
        return Settings(data_dir=tmp_path / name, lake=store.address, s3=store.settings(timeout_s), **fields)

    return settings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A control plane of the test's own; what lies in the bucket is the same whichever kind it is."""
    database = fresh(f"sqlite:///{tmp_path / 'control.sqlite'}")
    yield database
    database.close()


def _spool(settings: Settings, names: list[str], **fields: Any) -> None:
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    for name in names:
        writer.final(record(name, **fields))
    writer.close()


def _ingest(settings: Settings) -> int:
    ingester = Ingester(settings, dict)
    try:
        return ingester.run_once()
    finally:
        ingester.close()


def _ids(settings: Settings) -> Counter[str]:
    return Counter(Lake.of(settings).read(["id"])["id"].to_pylist())


def test_three_ingesters_share_one_table(house: Callable[..., Settings]) -> None:
    """Nothing is lost or doubled, commits conflict and are made again, and a follower sees each row once, in order."""
    houses = [house(name) for name in ("one", "two", "three")]
    ingesters = [Ingester(settings, dict) for settings in houses]
    stop = threading.Event()
    together = threading.Barrier(len(houses))
    followed: list[str] = []
    failed: list[Exception] = []

    def work(settings: Settings, ingester: Ingester) -> None:
        try:
            for batch in range(4):
                _spool(settings, [f"{settings.data_dir.name}-{batch}-{number}" for number in range(20)])
                together.wait(60)
                ingester.run_once()
        except Exception as error:
            failed.append(error)
            raise

    def follow() -> None:
        lake, version = Lake.of(houses[0]), -1
        while not stop.wait(0.2):
            rows, version = lake.follow(version, ["id"])
            followed.extend(rows["id"].to_pylist())
        followed.extend(lake.follow(version, ["id"])[0]["id"].to_pylist())

    workers = [threading.Thread(target=work, args=pair) for pair in zip(houses, ingesters, strict=True)]
    follower = threading.Thread(target=follow)
    for thread in (*workers, follower):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    follower.join()
    names = [settings.data_dir.name for settings in houses]
    wanted = {f"{name}-{batch}-{number}" for name in names for batch in range(4) for number in range(20)}
    assert failed == []
    assert _ids(houses[0]) == Counter(wanted)
    assert Counter(followed) == Counter(wanted)
    assert sum(ingester.conflicts for ingester in ingesters) > 0
    rows = Lake.of(houses[0]).read(["spool_stream", "lake_version"])
    assert len(rows["spool_stream"].unique()) == 3
    for settings, ingester in zip(houses, ingesters, strict=True):
        ingester.close()
        assert all(report.is_sound for report in verify(settings))
        assert sum(report.recorded for report in verify(settings)) == 240
        # What is acknowledged is gone from the spool, but for the segment that is written to.
        assert len(segments(settings.data_dir / "spool" / "w0")) == 1
    assert rehash(houses[0]).is_sound
    for version in rows["lake_version"].unique().to_pylist():
        assert len(rows.filter(pc.field("lake_version") == version)["spool_stream"].unique()) == 1


def test_a_commit_that_comes_second_is_made_again(house: Callable[..., Settings], store: s3.Store) -> None:
    """Its rows carry the version that they came in with, so that a follower who was between the two misses none."""
    first, second = Lake.of(house("one")), Lake.of(house("two"))
    first.append(to_table([record("a")]))
    held, arrived = threading.Event(), threading.Event()

    def hold_the_first(request: s3.Request) -> s3.Fault | None:
        if request.is_commit and not arrived.is_set():
            arrived.set()
            return s3.Fault(until=held)
        return None

    store.faults.script = hold_the_first
    slow = threading.Thread(target=lambda: first.append(to_table([record("slow")])))
    slow.start()
    assert arrived.wait(30)
    version = second.append(to_table([record("quick")]))
    held.set()
    slow.join()
    assert (first.conflicts, second.conflicts) == (1, 0)
    assert store.faults.count(412) == 1
    assert second.follow(version, ["id"])[0]["id"].to_pylist() == ["slow"]
    assert _ids(house()) == Counter(["a", "quick", "slow"])


def test_a_commit_whose_answer_was_lost_is_known_again(house: Callable[..., Settings], store: s3.Store) -> None:
    """S3 took it and answered 500: sent again it is refused, by itself, and its rows are there once."""
    _spool(house(), ["a", "b"])
    lost: list[s3.Request] = []

    def lose_one(request: s3.Request) -> s3.Fault | None:
        if request.is_commit and "01.json" in request.path and not lost:
            lost.append(request)
            return s3.Fault(answer=s3.INTERNAL, applied=True)
        return None

    store.faults.script = lose_one
    ingester = Ingester(house(), dict)
    assert ingester.run_once() == 2
    assert (ingester.conflicts, store.faults.count(412)) == (0, 1)
    ingester.close()
    assert _ids(house()) == Counter(["a", "b"])


@pytest.mark.parametrize("answer", [s3.SLOW_DOWN, s3.INTERNAL])
def test_throttling_and_errors_cost_time_only(
    house: Callable[..., Settings], store: s3.Store, answer: tuple[int, str]
) -> None:
    """Every third request is refused, whatever it asks."""
    counted = iter(range(1_000_000))
    store.faults.script = lambda _request: s3.Fault(answer=answer) if next(counted) % 3 == 0 else None
    names = [f"r{number}" for number in range(40)]
    for start in (0, 20):
        _spool(house(), names[start : start + 20])
        _ingest(house())
    assert store.faults.count(answer[0]) > 5
    assert _ids(house()) == Counter(names)
    assert all(report.is_sound for report in verify(house()))


def test_a_hung_store_holds_up_nobody(house: Callable[..., Settings], store: s3.Store) -> None:
    """Records go on into the spool, the commit's age and the failures tell, and it recovers by itself."""
    settings = house(timeout_s=1.0)
    _spool(settings, ["before"])
    ingester = Ingester(settings, dict)
    ingester.run_once()
    hung = threading.Event()
    store.faults.script = lambda request: s3.Fault(until=hung) if request.method == "PUT" else None
    stop = threading.Event()
    running = threading.Thread(target=ingester.run, args=(stop,))
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    writer.final(record("during"))
    running.start()
    eventually(lambda: ingester.committing_s() > 0.5, 30)
    began = time.monotonic()
    for number in range(100):
        writer.final(record(f"more{number}"))
    assert time.monotonic() - began < 10
    eventually(lambda: ingester.failures > 0, 60)
    assert ingester.lag().frames > 0
    hung.set()
    store.faults.script = lambda _request: None
    wanted = Counter(["before", "during", *(f"more{number}" for number in range(100))])
    eventually(lambda: ingester.rows == wanted.total(), 90)
    stop.set()
    running.join()
    ingester.close()
    writer.close()
    assert _ids(settings) == wanted
    assert all(report.is_sound for report in verify(settings))


def test_a_commit_that_comes_through_late_is_not_made_twice(house: Callable[..., Settings], store: s3.Store) -> None:
    """The ingester gave it up and read its rows again; S3 took it in between."""
    settings = house(timeout_s=1.0)
    _spool(settings, ["a"])
    _ingest(settings)
    _spool(settings, ["b", "c"])
    late, landed = threading.Event(), threading.Event()
    store.faults.script = lambda request: s3.Fault(until=late) if request.is_commit else None
    ingester = Ingester(settings, dict)
    with pytest.raises((LedgerError, DeltaError)):
        ingester.run_once()
    store.faults.script = lambda _request: None
    read = ingester._read

    def read_then_let_it_land() -> Any:
        batch = read()
        late.set()
        eventually(lambda: Lake.of(settings).read(["id"]).num_rows == 3, 30)
        landed.set()
        return batch

    ingester._read = read_then_let_it_land  # type: ignore[method-assign]
    with pytest.raises(LedgerError, match="its spool is read again"):
        ingester.run_once()
    assert landed.is_set()
    ingester._read = read  # type: ignore[method-assign]
    ingester.run_once()
    ingester.close()
    assert _ids(settings) == Counter(["a", "b", "c"])
    assert all(report.is_sound for report in verify(settings))


def test_wrong_keys_name_the_setting_and_nothing_else(
    house: Callable[..., Settings], store: s3.Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the secret nor the key's id, which S3 repeats in its answer, is in an error or a log."""
    _spool(house(), ["a"])
    store.faults.script = lambda _request: s3.Fault(answer=s3.REFUSED)
    for call in (
        lambda: Lake.of(house()).version(),
        lambda: Lake.of(house()).append(to_table([record("a")])),
        lambda: _ingest(house()),
        lambda: verify(house()),
    ):
        with pytest.raises(LakeUnreachable, match=r"s3\.access_key_env") as caught:
            call()
        text = f"{caught.value!r} {caught.getrepr(style='long')}"
        assert s3.KEY_ID not in str(caught.value)
        assert s3.SECRET not in text
    assert s3.KEY_ID not in caplog.text
    assert s3.SECRET not in caplog.text + repr(house())


def test_a_bucket_that_is_not_there_is_named(house: Callable[..., Settings]) -> None:
    """People make buckets."""
    settings = dataclasses.replace(house(), lake="s3://nobody-made-this/house")
    with pytest.raises(LakeUnreachable, match="make it, or mend `lake`"):
        Lake.of(settings).append(to_table([record("a")]))


def test_a_writer_of_an_older_version_is_refused_after_the_log_was_cut(house: Callable[..., Settings]) -> None:
    """Its place in the log stays taken: a commit there would be acknowledged and read by nobody."""
    slow, quick = Lake.of(house("one")), Lake.of(house("two"))
    slow.append(to_table([record("a")]))
    table = slow._refresh()
    for name in ("b", "c"):
        quick.append(to_table([record(name, account="app" if name == "b" else "other")]))
    rewriting.purge(quick)
    assert table is not None
    assert slow._commit(table, to_table([record("d")]), []) is None
    slow.append(to_table([record("d")]))
    assert _ids(house()) == Counter(["a", "b", "c", "d"])


def test_a_log_that_is_begun_anew_under_a_question_is_asked_again(
    house: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta reads the log when it is asked, and another machine may have emptied it since we saw the version."""
    slow, quick = Lake.of(house("one")), Lake.of(house("two"))
    slow.append(to_table([record("a")]), {"one": 7})
    slow._table = None
    seen = slow._refresh()
    assert seen is not None
    quick.append(to_table([record("b")]), {"two": 1})
    rewriting.purge(quick)
    monkeypatch.setattr(seen, "update_incremental", lambda: None)
    assert slow.last_transaction("one") == 7
    assert slow._table is not seen, "the older version's log answered: nothing was emptied under it"


def test_appends_of_another_machine_wait_for_a_rewrite(
    house: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do so out of courtesy: a turn whose owner is not heard of is given up."""
    bucket = importlib.import_module("gateway.ledger.bucket")
    one, two = Lake.of(house("one")), Lake.of(house("two"))
    one.append(to_table([record("a")]))
    done: list[float] = []

    def append() -> None:
        two.append(to_table([record(f"b{len(done)}")]))
        done.append(time.monotonic())

    with one.changing():
        waiting = threading.Thread(target=append)
        waiting.start()
        time.sleep(1.5)
        released = time.monotonic()
    waiting.join()
    assert done[0] > released
    monkeypatch.setattr(bucket, "GIVEN_UP_S", 0.5)
    one.storage.write("turn", b"somebody who was killed")
    append()
    assert one.storage.read("turn") is None


@pytest.mark.parametrize("step", ["tidy", "order"])
def test_a_rewrite_that_comes_second_is_made_again(
    house: Callable[..., Settings], store: s3.Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Two machines merge one day, as the turn of the first was thought nobody's: none fails, each row is there."""
    monkeypatch.setattr(importlib.import_module("gateway.ledger.bucket"), "GIVEN_UP_S", 0.1)
    first, second = Lake.of(house("one")), Lake.of(house("two"))
    for number in range(3):
        first.append(to_table([record(f"{number}{account}", account=account) for account in "ab"]))
    held, arrived = threading.Event(), threading.Event()
    done: list[int] = []

    commits: list[s3.Request] = []

    def hold_the_first(request: s3.Request) -> s3.Fault | None:
        if request.is_commit:
            commits.append(request)
        if len(commits) == 2 and not arrived.is_set():  # the one before says that files will be merged
            arrived.set()
            return s3.Fault(until=held)
        return None

    def merge(lake: Lake) -> int:
        return lake.tidy(1) if step == "tidy" else lake.order(lake.days()[0])

    store.faults.script = hold_the_first
    slow = threading.Thread(target=lambda: done.append(merge(first)))
    slow.start()
    assert arrived.wait(30)
    assert merge(second) == 3
    held.set()
    slow.join()
    assert (len(done), first.conflicts) == (1, 1)
    assert len(first.paths(first.days()[0])) == 1
    assert _ids(house()) == Counter(f"{number}{account}" for number in range(3) for account in "ab")
    assert rehash(house()).is_sound


@pytest.mark.parametrize("step", ["tidy", "order"])
def test_a_rewrite_whose_answer_was_lost_doubles_no_row(
    house: Callable[..., Settings], store: s3.Store, step: str
) -> None:
    """S3 took it and answered 500: sent again, it names the same files."""
    lake, lost = Lake.of(house()), []
    for number in range(3):
        lake.append(to_table([record(str(number))]))

    def lose_the_second(request: s3.Request) -> s3.Fault | None:
        if request.is_commit:
            lost.append(request)
        return s3.Fault(answer=s3.INTERNAL, applied=True) if request.is_commit and len(lost) == 2 else None

    store.faults.script = lose_the_second
    if step == "tidy":
        lake.tidy(1)
    else:
        lake.order(lake.days()[0])
    assert store.faults.count(412) > 0
    assert _ids(house()) == Counter("012")
    assert len(lake.paths(lake.days()[0])) == 1


def test_notes_of_removed_numbers_become_one_object(house: Callable[..., Settings], store: s3.Store) -> None:
    """Each night of each machine leaves one: they are brought together while others note more, and none is missed."""
    lakes_, stop = [Lake.of(house(name)) for name in ("one", "two", "three")], threading.Event()
    missing: list[int] = []
    noted: list[int] = []

    def note(number: int, lake: Lake) -> None:
        rows = {"spool_stream": ["w0-1"], "spool_number": pa.array([number], pa.int64())}
        lake.storage.note_removed(pa.table(rows))
        noted.append(number)

    def read() -> None:
        while not stop.is_set():
            known = list(noted)
            found = lakes_[0].storage.removed().get("w0-1", np.empty(0))
            missing.extend(set(known) - set(found.tolist()))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 12):
        note(number, lakes_[number % 3])
        if number % 4 == 0:
            lakes_[number % 2].storage.merge_notes()
    stop.set()
    reader.join()
    assert missing == []
    assert list(maintenance.maintain(house("four")))[2].files > 1
    assert lakes_[0].storage.merge_notes() == 0
    objects = store.client.list_objects_v2(Bucket=store.bucket, Prefix="house/removed/")["Contents"]
    assert len(objects) == 1
    assert lakes_[0].storage.removed()["w0-1"].tolist() == list(range(1, 12))


def test_retention_and_the_night_under_a_live_writer(house: Callable[..., Settings], database: Database) -> None:
    """Texts that are over age go, files are put in order, no row is lost or doubled, and verify is content."""
    settings = house(retention=RetentionSettings(text_days=10, rows_days=400))
    old = to_rfc3339(now().replace(microsecond=0) - timedelta(days=30))
    lake = Lake.of(settings)
    lake.append(to_table([record(f"old{n}", time=old, response=[TOLD]) for n in range(20)], day="2026-01-01"))
    for number in range(3):
        lake.append(to_table([record(f"new{number}")]))
    other, stop = house("two"), threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.wait(0.3):
            _spool(other, [f"live{len(written)}"])
            written.append(f"live{len(written)}")
            _ingest(other)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        kept = retention.apply(settings, database)
        reports = list(maintenance.maintain(settings))
    finally:
        stop.set()
        writer.join()
    assert kept.texts == 20
    assert {report.step: report.files for report in reports}["order"] > 0
    assert list(maintenance.maintain(other))[1].files == 0, "the other machine knows that the day is in order"
    assert _ids(settings) == Counter([*(f"old{n}" for n in range(20)), "new0", "new1", "new2", *written])
    assert lake.read(["response"], pc.field("day") == "2026-01-01")["response"].null_count == 20
    assert rehash(settings).is_sound
    assert all(report.is_sound for report in verify(other))


def test_an_erasure_leaves_nothing_in_any_version_of_any_object(
    house: Callable[..., Settings], store: s3.Store, database: Database
) -> None:
    """Old versions, commits that were refused and uploads without an end included, while another machine commits."""
    store.client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    settings, other = house("one"), house("two")
    said = [{"role": "user", "content": TOLD}]
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    lake = Lake.of(settings)
    lake.append(to_table([record("a", messages=said), record("o", account="other")]))
    lake.append(to_table([record("b", messages=said), record("p", account="other")]))
    lake.order(lake.days()[0])
    lake.erase_replaced()
    # What a commit that was refused leaves, and an upload that was never ended.
    data = next(data for key, data in store.versions().items() if ".parquet" in key and "day=" in key)
    orphan = f"house/traffic/day={lake.days()[0]}/part-orphan.parquet"
    store.client.put_object(Bucket=store.bucket, Key=orphan, Body=data)
    store.client.create_multipart_upload(Bucket=store.bucket, Key=orphan)
    assert _holding(store) != set()
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.wait(0.3):
            _spool(other, [f"live{len(written)}"], account="other")
            written.append(f"live{len(written)}")
            _ingest(other)

    busy = threading.Thread(target=write)
    busy.start()
    try:
        around = Surroundings(settings, database, lambda: None, quiet_s=0.0, patience_s=0.0)
        done = erasing.erase(around, "app", "mara")
    finally:
        stop.set()
        busy.join()
    assert done.receipt is not None
    assert (done.receipt["rows"], done.receipt["scan"]["found"]) == (2, 0)
    assert done.receipt["scan"]["files"] > 5
    assert _holding(store) == set()
    uploads = store.client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    assert uploads == []
    assert erasing.under_way(settings) == frozenset()
    assert set(_ids(settings)) == {"o", "p", *written}
    assert all(report.is_sound for report in (*verify(settings), *verify(other)))
    assert rehash(settings).is_sound


def test_each_machine_erases_what_its_own_spool_has(house: Callable[..., Settings], database: Database) -> None:
    """The account and its rows are gone when the second begins; it finishes all the same, and a third time is none."""
    one, two = house("one"), house("two")
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    Lake.of(one).append(to_table([record("a")]))
    _spool(two, ["b"], messages=[{"role": "user", "content": TOLD}])
    for settings in (one, two):
        bring_in = Mock(side_effect=functools.partial(_ingest, settings))
        around = Surroundings(settings, database, bring_in, quiet_s=0.0, patience_s=0.0)
        assert erasing.erase(around, "app", "mara").receipt is not None
        with pytest.raises(NotFound):
            erasing.erase(around, "app", "mara")
    assert _ids(one) == Counter()
    held = [path for path in two.data_dir.rglob("*") if path.is_file() and TOLD.encode() in path.read_bytes()]
    assert held == []


def _holding(store: s3.Store) -> set[str]:
    """The objects' versions that have the account's rows, its name or its text, looked at by themselves."""
    found = set()
    for key, data in store.versions().items():
        if ".parquet" in key:
            table = pq.read_table(io.BytesIO(data))
            data = json.dumps(table.to_pylist(), default=str).encode()
        if TOLD.encode() in data or b'"app"' in data or b'\\"app\\"' in data:
            found.add(key)
    return found


def test_what_an_erasure_finds_in_the_bucket_stops_its_receipt(
    house: Callable[..., Settings], store: s3.Store, database: Database
) -> None:
    """A copy that somebody made by hand below the prefix is found, and named."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    settings = house()
    Lake.of(settings).append(to_table([record("a", messages=[{"role": "user", "content": TOLD}])]))
    store.client.put_object(Bucket=store.bucket, Key="house/notes-of-mara.txt", Body=TOLD.encode())
    around = Surroundings(settings, database, lambda: None, quiet_s=0.0, patience_s=0.0)
    with pytest.raises(erasing.Unfinished, match=r"notes-of-mara\.txt"):
        erasing.erase(around, "app", "mara")
    assert erasing.under_way(settings) == {"app"}
    store.client.delete_object(Bucket=store.bucket, Key="house/notes-of-mara.txt")
    assert erasing.erase(around, "app", "mara").receipt is not None


def test_a_tombstone_stops_commits_that_began_before_it(house: Callable[..., Settings], store: s3.Store) -> None:
    """A machine that had not heard of it is refused, and leaves the account's rows out when it commits again."""
    one, two = Lake.of(house("one")), Lake.of(house("two"))
    one.append(to_table([record("o", account="other")]))
    held, arrived = threading.Event(), threading.Event()

    def hold(request: s3.Request) -> s3.Fault | None:
        if request.is_commit and not arrived.is_set():
            arrived.set()
            return s3.Fault(until=held)
        return None

    store.faults.script = hold
    rows = to_table([record("a"), record("p", account="other")])
    slow = threading.Thread(target=lambda: two.append(rows))
    slow.start()
    assert arrived.wait(30)
    one.hide("app")
    held.set()
    slow.join()
    assert sorted(one.read(["id"], with_erased=True)["id"].to_pylist()) == ["o", "p"]
    assert two.conflicts == 1


def test_two_machines_may_begin_one_lake(house: Callable[..., Settings]) -> None:
    """The table is made once."""
    ready = threading.Barrier(3)

    def begin(name: str) -> None:
        lake = Lake.of(house(name))
        ready.wait()
        lake.append(to_table([record(name)]))

    threads = [threading.Thread(target=begin, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _ids(house()) == Counter(["one", "two", "three"])


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_other_engines_read_it_in_place(house: Callable[..., Settings], store: s3.Store, engine: str) -> None:
    """With Delta's own words for where it is, as docs/operating.md says."""
    lake = Lake.of(house())
    lake.append(to_table([record("a", cost=10), record("b", account="other", cost=10)]))
    lake.append(to_table([record("c", cost=10)]))
    address, options = f"{store.address}/traffic", store.delta_options()
    library = importlib.import_module(engine)
    if engine == "duckdb":
        traffic = DeltaTable(address, storage_options=options).to_pyarrow_dataset()
        query = "SELECT account, sum(cost)::BIGINT FROM traffic GROUP BY account ORDER BY account"
        found = library.connect().register("traffic", traffic).sql(query).fetchall()
    else:
        table = library.scan_delta(address, storage_options=options).group_by("account").agg(library.col("cost").sum())
        found = table.sort("account").collect().rows()
    assert found == [("app", 20), ("other", 10)]
