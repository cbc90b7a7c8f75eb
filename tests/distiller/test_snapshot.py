"""Frozen snapshots: the same selection is the same hash, and no other byte passes."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distiller.selection import rights_now, select, task_like
from distiller.snapshot import Frozen, freeze, merkle_root, verify
from distiller.splitting import Sizes, split
from gateway.ledger.errors import Corrupt
from tests.distiller.house import House, records

SIZES = Sizes(gate=40, calibration=30, least_train=20)


def frozen(house: House, directory: Path, salt: str = "5a17", **settings: Any) -> Frozen:
    """Select the whole lake's tickets and freeze them, with one salt for all."""
    task = task_like(house.lake, house.settings, "tickets", "r00000")
    with house.database.read() as connection:
        rights = rights_now(connection, task.teacher)
    selection = select(house.lake, task, rights)
    selection = replace(selection, rows=tuple(replace(row, salt=salt) for row in selection.rows))
    return freeze(directory, task, selection, split(selection.rows, SIZES), rights, settings)


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    house.log(records(120))
    return house


@pytest.fixture
def snapshot(house: House, tmp_path: Path) -> Frozen:
    return frozen(house, tmp_path / "snapshots")


def test_the_hash_is_that_of_the_manifest(snapshot: Frozen) -> None:
    """The folder's name, the snapshot's hash and the SHA-256 of the manifest's bytes are one."""
    data = (snapshot.path / "manifest.json").read_bytes()
    assert snapshot.path.name == snapshot.hash == hashlib.sha256(data).hexdigest()
    assert verify(snapshot.path, snapshot.hash).manifest == json.loads(data) == snapshot.manifest


def test_the_same_selection_is_the_same_snapshot(house: House, snapshot: Frozen, tmp_path: Path) -> None:
    """Freezing again gives the same hash, leaves the folder alone and nothing beside it; other settings another."""
    before = (snapshot.path / "train.parquet").stat().st_mtime_ns
    assert frozen(house, tmp_path / "snapshots").hash == snapshot.hash
    assert (snapshot.path / "train.parquet").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [snapshot.hash]
    assert frozen(house, tmp_path / "snapshots", gate_rows=41).hash != snapshot.hash


def test_hashes_are_salted(house: House, snapshot: Frozen, tmp_path: Path) -> None:
    """Rows without a salt get one of their own, so that equal rows have other hashes in another snapshot."""
    salted = frozen(house, tmp_path / "snapshots", salt="")
    salts = [row.salt for row in salted.rows("train")]
    assert len(set(salts)) == len(salts)
    assert {len(salt) for salt in salts} == {32}
    hashes = [dict(one.manifest["splits"]["train"]["rows"]) for one in (snapshot, salted)]
    assert hashes[0].keys() == hashes[1].keys()
    assert not set(hashes[0].values()) & set(hashes[1].values())
    assert salts[0] not in (salted.path / "manifest.json").read_text()


def test_says_whose_rows_by_which_right(snapshot: Frozen) -> None:
    """The manifest names teacher, licence, consent, lake version, code, and every row; the report counts them."""
    manifest = snapshot.manifest
    assert manifest["teacher"] == {"name": "teacher", "licence": "Apache-2.0", "distillable": True}
    assert manifest["consents"]["shop"]["granted"] == "2026-10-31T08:00:00.000Z"
    assert manifest["lake"]["version"] >= 1
    assert len(manifest["code"]["sha256"]) == 64
    assert snapshot.report["rows"] == {"train": 50, "calibration": 30, "gate": 40}
    assert snapshot.report["accounts"] == {"shop": 120}
    assert [row.id for row in snapshot.rows("gate")] == [row for row, _ in manifest["splits"]["gate"]["rows"]]


def test_the_files_have_the_columns_that_training_reads(snapshot: Frozen) -> None:
    """Each file has the agreed columns; `request` is a chat.completions body with its messages and output format."""
    table = pq.read_table(snapshot.path / "train.parquet")
    assert table.column_names == [
        "id",
        "time",
        "account",
        "conversation",
        "request",
        "answer",
        "slices",
        "reason",
        "salt",
    ]
    request = json.loads(table["request"][0].as_py())
    assert set(request) == {"messages", "temperature", "max_tokens", "structured_outputs"}


def test_files_are_read_only(snapshot: Frozen) -> None:
    """Nobody writes to a frozen file by accident."""
    for file in snapshot.path.iterdir():
        assert not stat.S_IMODE(file.stat().st_mode) & 0o222


@pytest.mark.parametrize("name", ["manifest.json", "train.parquet", "calibration.parquet", "gate.parquet"])
def test_one_changed_byte_is_refused(snapshot: Frozen, name: str) -> None:
    """Verification fails on a flipped bit in any file, and names the file."""
    file = snapshot.path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(Corrupt, match=name):
        verify(snapshot.path, snapshot.hash)


def test_a_missing_file_is_refused(snapshot: Frozen) -> None:
    """A snapshot without one of its files, or without its folder, does not verify."""
    (snapshot.path / "gate.parquet").unlink()
    with pytest.raises(Corrupt, match=r"gate\.parquet"):
        verify(snapshot.path, snapshot.hash)
    with pytest.raises(Corrupt, match="can't be read"):
        verify(snapshot.path.with_name("0" * 64), "0" * 64)


def test_merkle_root_is_rfc_6962s() -> None:
    """Roots of 0, 1, 2 and 3 leaves are those that the RFC's definition gives by hand."""

    def sha(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    a, b, c = (sha(b"\0" + bytes([i])) for i in range(3))
    assert merkle_root([]) == sha(b"").hex()
    assert merkle_root(["00"]) == a.hex()
    assert merkle_root(["00", "01"]) == sha(b"\1" + a + b).hex()
    assert merkle_root(["00", "01", "02"]) == sha(b"\1" + sha(b"\1" + a + b) + c).hex()
