"""Retention: texts sooner than rows, by account and model, never what is on hold, and verify misses nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from gateway.ledger import accounts, holds, retention, rewriting
from gateway.ledger import lake as lakes
from gateway.ledger.database import Database
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import to_rfc3339
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import to_table
from gateway.ledger.verification import verify
from gateway.settings import ModelRetentionSettings, RetentionSettings, Settings
from tests.gateway.ledger.records import record

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _aged(days: int, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A record of so many days ago."""
    return record(name or f"{days}", time=to_rfc3339(NOW - timedelta(days=days)), **fields)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.data_dir / "lake" / "traffic")


def _texts(lake: Lake) -> dict[str, bool]:
    """By id, whether the row still has its text."""
    return {row["id"]: row["messages"] is not None for row in lake.read(["id", "messages"]).to_pylist()}


def _bytes(settings: Settings) -> bytes:
    return b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())


def test_texts_go_before_rows(settings: Settings, database: Database, lake: Lake) -> None:
    """By default texts are kept 30 days and rows 400; figures and fingerprints stay with the row."""
    fingerprint = {"skeleton": "s", "minhash": list(range(64))}
    lake.append(to_table([_aged(1), _aged(31, fingerprint=fingerprint, usage={"input_tokens": 3}, cost=7), _aged(401)]))
    assert retention.apply(settings, database, NOW) == retention.Kept(texts=1, rows=1, files=2)
    assert _texts(lake) == {"1": True, "31": False}
    found = lake.record("31")
    assert found is not None
    assert found["fingerprint"] == fingerprint
    assert (found["cost"], found["usage"]) == (7, {"input_tokens": 3})
    assert retention.apply(settings, database, NOW) == retention.Kept(0, 0, 0)


def test_a_wrong_clock_keeps_nothing_for_longer(settings: Settings, database: Database, lake: Lake) -> None:
    """A row that is dated years ahead is as old as its arrival, for texts and for whole rows."""
    days = {name: (NOW - timedelta(days=age)).date().isoformat() for name, age in (("a", 1), ("b", 33), ("c", 403))}
    for name, day in days.items():
        lake.append(to_table([record(name, time=to_rfc3339(NOW + timedelta(days=20_000)))], day))
    kept = retention.apply(settings, database, NOW)
    assert (kept.texts, kept.rows) == (1, 1)
    assert _texts(lake) == {"a": True, "b": False}


def test_parameters_and_extras_that_may_quote_the_prompt_go_with_it(
    settings: Settings, database: Database, lake: Lake
) -> None:
    """Numbers stay, words do not; the names by which a caller finds its request again do."""
    parameters = {"temperature": 0.5, "stream": True, "stop": ["PRIVATE"]}
    extra = {"request_id": "mine", "structured_outputs": {"choice": ["PRIVATE"]}}
    lake.append(to_table([_aged(31, parameters=parameters, extra=extra)]))
    retention.apply(settings, database, NOW)
    found = lake.record("31")
    assert found is not None
    assert found["parameters"] == {"temperature": 0.5, "stream": True}
    assert found["extra"] == {"request_id": "mine"}


def test_the_closest_word_holds(settings: Settings, database: Database, lake: Lake) -> None:
    """Account and model before account, account before model, model before all; each field by itself."""
    models = (ModelRetentionSettings("small", text_days=5),)
    settings = replace(settings, retention=RetentionSettings(text_days=10, rows_days=100, models=models))
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        retention.assign(connection, "app", "", 2, None, "tester")
        retention.assign(connection, "app", "small", 0, 3, "tester")
    with database.read() as connection:
        policy = retention.policy(connection, settings.retention)
    assert policy.of("app", "small") == retention.Days(None, 3)
    assert policy.of("app", "teacher") == retention.Days(2, 100)
    assert policy.of("other", "small") == retention.Days(5, 100)
    assert policy.of("other", "teacher") == retention.Days(10, 100)
    lake.append(
        to_table(
            [
                _aged(4, "app small", model="small"),
                _aged(4, "app teacher"),
                _aged(6, "other small", account="other", model="small"),
                _aged(6, "other teacher", account="other"),
            ]
        )
    )
    retention.apply(settings, database, NOW)
    assert _texts(lake) == {"app teacher": False, "other small": False, "other teacher": True}


def test_a_zero_retention_account_loses_what_it_left_before(settings: Settings, database: Database, lake: Lake) -> None:
    """Texts from before the setting go with the next step, whatever their age."""
    lake.append(to_table([_aged(1, "app"), _aged(1, "other", account="other")]))
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
        accounts.set_keep_text(connection, "app", False, "tester")
    retention.apply(settings, database, NOW)
    assert _texts(lake) == {"app": False, "other": True}


def test_nothing_on_hold_goes(settings: Settings, database: Database, lake: Lake) -> None:
    """Neither rows nor texts, until the hold is released."""
    lake.append(to_table([_aged(500)]))
    with database.write() as connection:
        holds.place(connection, "app", "mara", "case 7")
    assert retention.apply(settings, database, NOW) == retention.Kept(0, 0, 0)
    with database.write() as connection:
        holds.release(connection, "app", "mara")
    assert retention.apply(settings, database, NOW).rows == 1


def test_no_file_keeps_what_is_gone(settings: Settings, database: Database, lake: Lake) -> None:
    """Old files of the lake, lines set aside and damaged segments are unlinked, not left to a later vacuum."""
    lake.append(to_table([_aged(31)]))
    parquet = set(settings.data_dir.rglob("*.parquet"))
    for name in ("rejected/a.jsonl", "spool/w0/1.torn"):
        (settings.data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / name).write_text("PRIVATE")
    retention.apply(settings, database, datetime.now(UTC) + timedelta(days=31))
    assert not parquet & set(settings.data_dir.rglob("*.parquet"))
    assert b"PRIVATE" not in _bytes(settings)


def test_verify_does_not_miss_removed_rows(settings: Settings, database: Database, lake: Lake) -> None:
    """Numbered rows that retention took are accounted for; a row that went otherwise is missing."""
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    for number, days in enumerate((500, 1, 500, 2)):
        writer.final(_aged(days, str(number)))
    ingester = Ingester(settings, dict)
    ingester.run_once()
    assert retention.apply(settings, database, NOW).rows == 2
    (report,) = verify(settings)
    assert (report.is_sound, report.completed, report.recorded) == (True, 2, 2)
    writer.close()
    SpoolWriter(settings.data_dir / "spool", "w0").close()
    ingester.run_once()
    ingester.close()
    (settings.data_dir / "lake" / "removed.json").unlink()
    (report,) = verify(settings)
    assert report.missing_numbers == [1, 3]


def test_appends_go_on_meanwhile(
    settings: Settings, database: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a writer that commits all the time no row is lost or doubled, and a follower sees nothing twice."""
    monkeypatch.setattr(rewriting, "BATCH_ROWS", 20)
    for batch in range(5):
        lake.append(to_table([_aged(31, f"old{batch}.{number}") for number in range(10)]))
    version = lake.version()
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        other = Lake.of(settings)
        while not stop.is_set():
            name = f"new{len(written)}"
            other.append(to_table([_aged(0, name)]))
            written.append(name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert retention.apply(settings, database, NOW).texts == 50
    finally:
        stop.set()
        writer.join()
    texts = _texts(lake)
    assert len(texts) == lake.read(["id"]).num_rows == 50 + len(written)
    assert {name for name, kept in texts.items() if kept} == set(written)
    assert lake.follow(version, ["id"])[0]["id"].to_pylist() == written


def test_the_spool_keeps_no_text_for_longer(settings: Settings, database: Database) -> None:
    """A segment stays while a worker writes to it; what is over age in it is overwritten."""
    writer = SpoolWriter(settings.data_dir / "spool", "w0")
    writer.final(_aged(31, "old"))
    writer.final(_aged(1, "new"))
    ingester = Ingester(settings, dict)
    ingester.run_once()
    ingester.close()
    retention.apply(settings, database, NOW)
    assert b"question old" not in _bytes(settings)
    assert b"question new" in _bytes(settings)
    writer.close()


def test_negative_days_are_refused(database: Database) -> None:
    """The error says what to write instead."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("app"), "tester")
    with pytest.raises(InvalidValue, match="0 for no end"), database.write() as connection:
        retention.assign(connection, "app", "", -1, None, "tester")


def test_hashes_follow_what_was_changed_and_damage_stays_known(
    settings: Settings, database: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewritten rows hash as they are stored, in a day in Z-order too; a row that was damaged goes on being found."""
    for number in "01":
        lake.append(to_table([_aged(31, number), _aged(1, f"new{number}", account="other")], "2026-11-01"))
    with monkeypatch.context() as damaging:
        damaging.setattr(lakes, "row_hashes", lambda rows: pa.array([b"x" * 16] * rows.num_rows, pa.binary()))
        lake.append(to_table([_aged(31, "damaged")], "2026-11-01"))
    lake.order("2026-11-01")
    assert retention.apply(settings, database, NOW).texts == 3
    report = rehash(settings)
    assert (report.rows, report.unhashed, [place["id"] for place in report.places]) == (5, 0, ["damaged"])
    assert sorted(lake.read(["id"])["id"].to_pylist()) == ["0", "1", "damaged", "new0", "new1"]


def test_text_that_is_only_among_the_extras_goes(settings: Settings, database: Database, lake: Lake) -> None:
    """A record that could not be read is kept as it came, under `extra`; its age counts all the same, once."""
    wire = {"request": {"messages": [{"role": "user", "content": "PRIVATE"}]}}
    row = _aged(31, extra={"request_id": "mine", "wire": wire})
    del row["messages"]
    lake.append(to_table([row | {"response": None}]))
    assert retention.apply(settings, database, NOW).texts == 1
    assert (lake.record("31") or {})["extra"] == {"request_id": "mine"}
    assert b"PRIVATE" not in _bytes(settings)
    assert retention.apply(settings, database, NOW).texts == 0


def test_verify_begins_again_when_files_go_under_it(settings: Settings, database: Database, lake: Lake) -> None:
    """A file that retention unlinked since it was listed is not damage; one that is missing is."""
    lake.append(to_table([_aged(31)]))
    listed = list(lake.files(["id"]))
    retention.apply(settings, database, NOW)
    with pytest.raises(FileNotFoundError):
        list(listed[0][1])
    assert not lake.has_file(listed[0][0])
    assert rehash(settings).is_sound
    ((path, _batches),) = lake.files(["id"])
    (settings.data_dir / "lake" / "traffic" / path).unlink()
    assert [found["file"] for found in rehash(settings).unreadable] == [path]
