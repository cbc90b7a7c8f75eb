"""Frozen snapshots: a folder of Parquet files under the SHA-256 of the manifest that names every byte and row in them.

`manifest.json` says what was selected, by which settings and code, on whose consent, and per split the file's SHA-256,
each row's id and salted SHA-256, and their Merkle root (RFC 6962 § 2.1, over the rows' digests). A snapshot is written
beside its place and renamed, its files are read-only, and `verify` re-hashes all of it before anything trains.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distiller.rows import Row, canonical
from distiller.selection import Rights, Selection, Task
from distiller.splitting import NAMES, Splits
from gateway.ledger import snapshot_rows
from gateway.ledger.durable import sync_path
from gateway.ledger.errors import Corrupt, Forbidden
from gateway.ledger.identifiers import to_rfc3339

FORMAT = "spiritsafe.snapshot/2"
SCHEMA: pa.Schema = pa.schema(
    [
        ("id", pa.string()),
        ("time", pa.timestamp("ms", "UTC")),
        ("account", pa.string()),
        ("conversation", pa.string()),
        ("request", pa.string()),
        ("answer", pa.string()),
        ("slices", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("salt", pa.string()),
    ]
)


@dataclass(frozen=True)
class Frozen:
    """A snapshot on disk: `hash` is the SHA-256 of its manifest's bytes."""

    hash: str
    path: Path
    manifest: dict[str, Any]

    @property
    def report(self) -> dict[str, Any]:
        """Counts: `rows` per split, `left_out` by reason, `accounts`, `scrubbed` by kind; `approvals` it needs."""
        report: dict[str, Any] = self.manifest["report"]
        return report

    def rows(self, split: str) -> list[Row]:
        """Read the rows of one split, oldest first."""
        return _read(self.path / f"{split}.parquet")


def freeze(
    directory: Path, task: Task, selection: Selection, splits: Splits, rights: Rights, settings: Mapping[str, Any]
) -> Frozen:
    """Write the snapshot into `directory` under its hash; the same selection and salts twice are the same snapshot.

    Rows without a salt get one.
    """
    splits = _salted(splits)
    building = directory / f".building.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        files = {name: _write(building / f"{name}.parquet", rows) for name, rows in splits.named().items()}
        manifest = _manifest(task, selection, splits, rights, settings, files)
        data = canonical(manifest) + b"\n"
        (building / "manifest.json").write_bytes(data)
        (building / "report.json").write_text(json.dumps(manifest["report"], indent=1, sort_keys=True) + "\n")
        digest = hashlib.sha256(data).hexdigest()
        _settle(building, directory / digest)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Frozen(digest, directory / digest, manifest)


def verify(path: Path, digest: str) -> Frozen:
    """Re-hash a snapshot's manifest, files, rows and Merkle roots; `Corrupt` names what differs.

    `Forbidden` where rows were withdrawn or erased since: what is left is not what was approved.
    """
    manifest = read_manifest(path, digest)
    lost = snapshot_rows.removals(path)
    if lost:
        rows = sum(entry["rows"] for entry in lost)
        raise Forbidden(
            f"snapshot {digest[:12]} lost {rows} rows to a withdrawal or an erasure, the last on "
            f"{lost[-1]['time'][:10]}: nothing trains on it any more, select and approve a new one"
        )
    for name in NAMES:
        _verify_split(path, name, manifest["splits"][name])
    return Frozen(digest, path, manifest)


def read_manifest(path: Path, digest: str) -> dict[str, Any]:
    """Return a snapshot's manifest, which stays when rows were taken out; `Corrupt` where it is another."""
    try:
        data = (path / "manifest.json").read_bytes()
    except OSError as error:
        raise Corrupt(f"snapshot {path} can't be read ({error}): restore it, or select a new one") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise _corrupt(path, "manifest.json")
    manifest: dict[str, Any] = json.loads(data)
    if manifest["format"] != FORMAT:
        raise Corrupt(f"{path} has the format {manifest['format']!r}, this version reads {FORMAT}: select a new one")
    return manifest


def _salted(splits: Splits) -> Splits:
    train, calibration, gate = (tuple(map(_with_salt, rows)) for rows in splits.named().values())
    return replace(splits, train=train, calibration=calibration, gate=gate)


def _with_salt(row: Row) -> Row:
    return row if row.salt else replace(row, salt=secrets.token_hex(16))


def merkle_root(leaves: Sequence[str]) -> str:
    """Return the Merkle tree hash of hexadecimal leaves, with RFC 6962's prefixes for leaves and nodes."""
    return _tree([bytes.fromhex(leaf) for leaf in leaves]).hex()


def _tree(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + _tree(leaves[:middle]) + _tree(leaves[middle:])).digest()


def _manifest(
    task: Task,
    selection: Selection,
    splits: Splits,
    rights: Rights,
    settings: Mapping[str, Any],
    files: Mapping[str, str],
) -> dict[str, Any]:
    rows = [row for part in splits.named().values() for row in part]
    accounts = sorted({row.account for row in rows})
    cut = {"straddles": splits.straddling, "held_out": splits.held_out}
    teacher = task.teacher
    return {
        "format": FORMAT,
        "task": task.name,
        "endpoint": task.endpoint,
        "skeleton": task.skeleton,
        "like": task.like,
        "teacher": {"name": teacher.name, "licence": teacher.licence, "distillable": teacher.distillable},
        "lake": {"version": selection.lake_version},
        "code": {"version": importlib.metadata.version("spiritsafe"), "sha256": _code_digest()},
        "settings": dict(settings),
        "consents": {account: _consent(rights, account) for account in accounts},
        "splits": {name: _split(name, part, files[name]) for name, part in splits.named().items()},
        "report": {
            "rows": {name: len(part) for name, part in splits.named().items()},
            "left_out": selection.left_out | {reason: count for reason, count in cut.items() if count},
            "accounts": {account: sum(row.account == account for row in rows) for account in accounts},
            "scrubbed": selection.scrubbed,
            "approvals": settings.get("approvals", 1),
        },
    }


def _consent(rights: Rights, account: str) -> dict[str, str]:
    consent = rights.consents[account]
    granted = to_rfc3339(consent.granted)
    return {"id": consent.id, "purpose": consent.purpose, "version": consent.version, "granted": granted}


def _split(name: str, rows: Sequence[Row], file_digest: str) -> dict[str, Any]:
    digests = [row.digest() for row in rows]
    return {
        "file": f"{name}.parquet",
        "sha256": file_digest,
        "merkle_root": merkle_root(digests),
        "rows": [[row.id, digest] for row, digest in zip(rows, digests, strict=True)],
    }


def _code_digest() -> str:
    """One hash over the sources of this package, which decided what is in the snapshot."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def _write(path: Path, rows: Sequence[Row]) -> str:
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["request"] = [canonical(row.request).decode() for row in rows]
    pq.write_table(pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA), path)
    return _file_digest(path)


def _read(path: Path) -> list[Row]:
    table = pq.read_table(path, schema=SCHEMA)
    rows = table.to_pylist()
    return [Row(**{**row, "request": json.loads(row["request"]), "slices": tuple(row["slices"])}) for row in rows]


def _settle(building: Path, place: Path) -> None:
    """Make the folder's bytes durable and read-only, and give it its name."""
    for file in building.iterdir():
        file.chmod(0o444)
        sync_path(file)
    sync_path(building)
    if not place.exists():
        os.replace(building, place)
        sync_path(place.parent)


def _verify_split(path: Path, name: str, wanted: Mapping[str, Any]) -> None:
    file = path / str(wanted["file"])
    if not file.is_file() or _file_digest(file) != wanted["sha256"]:
        raise _corrupt(path, file.name)
    found = [[row.id, row.digest()] for row in _read(file)]
    if found != wanted["rows"] or merkle_root([digest for _, digest in found]) != wanted["merkle_root"]:
        raise _corrupt(path, f"{name}: a row's hash")


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _corrupt(path: Path, what: str) -> Corrupt:
    return Corrupt(
        f"snapshot {path}: {what} is not what was approved. Nothing trains on it; restore the folder from a copy, or "
        "select and approve a new one"
    )
