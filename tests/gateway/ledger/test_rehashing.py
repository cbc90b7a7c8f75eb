"""Rows that are not what was written are found, wherever the change is, and said where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from gateway.ledger.lake import STORED, Lake
from gateway.ledger.rehashing import rehash
from gateway.ledger.rowhash import ROW_HASH, row_hashes
from gateway.ledger.traffic import to_table
from gateway.settings import Settings
from tests.gateway.ledger.records import record


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A lake of three rows in two files, with something in every kind of column."""
    lake = Lake(settings.data_dir / "lake" / "traffic")
    full = record(
        "b",
        tags=["x", "y"],
        latency_ms=1.5,
        cost=7,
        store=True,
        usage={"input_tokens": 3, "source": "exact"},
        client={},
        fingerprint={"minhash": list(range(64)), "embedding": [1] * 128},
    )
    lake.append(to_table([record("a"), full]))
    lake.append(to_table([record("c")]))
    return lake


def _file_with(settings: Settings, identifier: str) -> Path:
    root = settings.data_dir / "lake" / "traffic"
    return next(path for path in root.rglob("*.parquet") if identifier in pq.read_table(path)["id"].to_pylist())


def _edit(path: Path, row: int, column: str, value: Any) -> None:
    table = pq.ParquetFile(path).read()
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)


def test_rows_as_written_are_sound(settings: Settings, lake: Lake) -> None:
    """Reading gives every hash back, before and after files are merged."""
    assert (rehash(settings).rows, rehash(settings).is_sound) == (3, True)
    assert lake.tidy(1) == 2
    report = rehash(settings)
    assert (report.rows, report.unhashed, report.damaged, report.is_sound) == (3, 0, 0, True)


def test_an_empty_house_is_sound(settings: Settings) -> None:
    """Before there is a lake there is nothing to find."""
    assert rehash(settings).is_sound


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("account", "somebody"),
        ("account", None),
        ("messages", "[]"),
        ("cost", 8),
        ("cost", None),
        ("latency_ms", 1.5000000000000002),
        ("latency_ms", float("nan")),
        ("store", False),
        ("tags", ["x,y"]),
        ("tags", None),
        ("usage", {"input_tokens": 3, "source": "counted"}),
        ("client", None),
        ("time", None),
        ("minhash", bytes(256)),
        ("spool_number", 3),
        ("lake_version", 2),
        (ROW_HASH, bytes(16)),
    ],
)
def test_an_edited_field_is_found_and_said_where(settings: Settings, lake: Lake, column: str, value: Any) -> None:
    """A change of any column, to another value or to none, is told with the file, the row and the record's id."""
    assert lake.version() == 2
    path = _file_with(settings, "b")
    _edit(path, 1, column, value)
    report = rehash(settings)
    assert not report.is_sound
    assert (report.rows, report.damaged) == (3, 1)
    (place,) = report.places
    assert (place["id"], place["row"], Path(place["file"]).name) == ("b", 1, path.name)


def test_text_that_moves_between_columns_is_another_row(lake: Lake) -> None:
    """Where a field ends is part of the hash, so that no two rows are the same bytes."""
    rows = lake.read(["id", "account", "user"])
    first = rows.set_column(2, "user", pa.array(["1:x", "", None]))
    second = rows.set_column(1, "account", pa.array(["app:1:x", "app", "app"])).set_column(
        2, "user", pa.nulls(3).cast("string")
    )
    assert not set(row_hashes(first).to_pylist()) & set(row_hashes(second).to_pylist()[:2])


def test_a_hash_depends_on_the_row_alone(lake: Lake) -> None:
    """However rows are cut into tables and chunks, each has the same hash; it is fixed for ever."""
    table = pa.table({"id": ["a", "b", None], "cost": [1, None, 3], "latency_ms": [0.5, None, -0.0]})
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert row_hashes(table) == row_hashes(cut) == pa.concat_arrays([row_hashes(table.slice(i, 1)) for i in range(3)])
    assert row_hashes(table)[0].as_py().hex() == "16879342808dc0f1760f9c332c01be41"


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
    ],
    ids=["gone", "cut", "zeros"],
)
def test_a_file_that_can_not_be_read_is_named(settings: Settings, lake: Lake, harm: Callable[[Path], Any]) -> None:
    """The others are still read, and what is wrong is said."""
    assert lake.exists()
    path = _file_with(settings, "c")
    harm(path)
    report = rehash(settings)
    assert (report.rows, report.damaged, report.is_sound) == (2, 0, False)
    (broken,) = report.unreadable
    assert broken["file"].endswith(path.name)
    assert broken["reason"]


def test_flipped_bits_are_found(settings: Settings, lake: Lake) -> None:
    """A bit that changes in a column's pages is a damaged row or an unreadable file, unless it changes no value."""
    assert lake.exists()
    path = _file_with(settings, "b")
    whole = path.read_bytes()
    found = 0
    pages = pq.ParquetFile(path).metadata.row_group(0).column(0)
    for position in range(pages.data_page_offset + 30, pages.data_page_offset + pages.total_compressed_size):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        path.write_bytes(bytes(flipped))
        found += not rehash(settings).is_sound
        if rehash(settings).is_sound:
            assert sorted(lake.read(["id"])["id"].to_pylist()) == ["a", "b", "c"], position
    assert found > 20


def test_rows_of_before_are_counted_and_new_ones_hashed(settings: Settings) -> None:
    """A lake made without the column gains it with the next append; its old rows are told apart, and still verified."""
    path = settings.data_dir / "lake" / "traffic"
    old = pa.schema([field for field in STORED if field.name != ROW_HASH])
    rows = pa.table({field.name: pa.nulls(1, field.type) for field in old}, schema=old)
    rows = rows.set_column(old.get_field_index("day"), "day", pa.array(["2026-11-01"]))
    rows = rows.set_column(old.get_field_index("id"), "id", pa.array(["old"]))
    DeltaTable.create(str(path), old, partition_by="day")
    write_deltalake(str(path), rows, mode="append")
    lake = Lake(path)
    assert (rehash(settings).rows, rehash(settings).unhashed) == (1, 1)
    lake.append(to_table([record("new")]), {"w0": 1})
    report = rehash(settings)
    assert (report.rows, report.unhashed, report.damaged) == (2, 1, 0)
    assert sorted(lake.read(["id"])["id"].to_pylist()) == ["new", "old"]
    assert lake.last_transaction("w0") == 1
