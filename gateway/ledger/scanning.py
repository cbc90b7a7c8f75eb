"""Looking for what should be gone, in every file below `data_dir` and every object of the lake's bucket.

It is what an erasure's receipt rests on. A file is searched as it lies there and, where that hides text, as it reads:
Parquet is decompressed, the spool's frames are told apart. Sought are the account's name in its JSON form, pieces of
its texts, and the hashes of its keys. Others may have said the same words: in a file that tells whose row is whose, a
piece counts only in the account's own.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.ledger.frames import Kind, read_segment
from gateway.ledger.snapshot_rows import rows_of
from gateway.ledger.storage import Storage

MOST_PIECES = 200
_SHORTEST, _LONGEST = 16, 64
_PLAIN = re.compile(r'[^\x00-\x1f"\\\x7f-\x9f\ud800-\udfff]{16,}')
# Where a name stays, as an id: who was to be erased, whose rows a student was made from, what people decided.
_NAMED = ("control.sqlite", "receipts/", "snapshots/")


@dataclass(frozen=True)
class Sought:
    """What is looked for: the account's name, pieces of its texts, and other bytes that are its alone."""

    account: str
    pieces: tuple[str, ...] = ()
    secrets: tuple[bytes, ...] = ()

    @property
    def names(self) -> tuple[bytes, ...]:
        """The name as JSON has it, and as JSON inside JSON has it."""
        return (f'"{self.account}"'.encode(), f'\\"{self.account}\\"'.encode())

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The pieces as UTF-8 and as JSON that escapes what is not ASCII."""
        escaped = (json.dumps(piece)[1:-1].encode() for piece in self.pieces)
        return tuple(dict.fromkeys([*(piece.encode() for piece in self.pieces), *escaped]))


@dataclass(frozen=True)
class Found:
    """Where something was found that should be gone, and what: `name`, `text`, `secret` or `rows`."""

    file: str
    what: str


@dataclass(frozen=True)
class Scan:
    """How much was read, and what was found."""

    files: int
    bytes: int
    found: tuple[Found, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.found


def pieces_of(texts: Iterable[str], most: int = MOST_PIECES) -> tuple[str, ...]:
    """Return a piece of each text, as long as possible without a character that JSON would write otherwise."""
    pieces: dict[str, None] = {}
    for text in texts:
        longest = max(_PLAIN.findall(text), key=len, default="").strip()
        if len(longest) >= _SHORTEST:
            pieces[longest[:_LONGEST]] = None
        if len(pieces) >= most:
            break
    return tuple(pieces)


def scan(
    data_dir: Path,
    sought: Sought,
    extra: Iterable[Path] = (),
    without: Iterable[Path] = (),
    stored: Iterable[tuple[str, bytes]] = (),
) -> Scan:
    """Read every file below `data_dir` and the extra ones (a control plane elsewhere), but for those left out.

    `stored`: names and bytes of what lies elsewhere, read in the same way.
    """
    left_out, elsewhere = set(without), set(extra)
    found: list[Found] = []
    files = size = 0
    for path in dict.fromkeys([*_files(data_dir), *elsewhere]):
        if path in left_out:
            continue
        try:
            size += path.stat().st_size
            files += 1
            shown = str(path.relative_to(data_dir)) if path.is_relative_to(data_dir) else str(path)
            named = path in elsewhere or shown.startswith(_NAMED)
            found += [Found(shown, what) for what in sorted(set(_search(path, sought, named=named)))]
        except FileNotFoundError:  # A live house replaces its files; what took its place is listed next time.
            continue
    for name, data in stored:
        files, size = files + 1, size + len(data)
        found += [Found(name, what) for what in sorted(set(_search_stored(name, data, sought)))]
    return Scan(files, size, tuple(found))


def stored_in(storage: Storage) -> Iterator[tuple[str, bytes]]:
    """Yield every object that a lake has outside `data_dir`, each of its versions; tombstones are ids, and go last."""
    for item in storage.objects():
        data = None if item.name.startswith("hidden/") else storage.read(item.name, item.version)
        if data is not None:
            yield item.name if item.version in (None, "null") else f"{item.name}?versionId={item.version}", data


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _search(path: Path, sought: Sought, *, named: bool) -> Iterator[str]:
    if path.suffix == ".parquet":
        yield from _search_parquet(path, sought)
        return
    if path.stat().st_size == 0:  # An empty file can't be mapped.
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = set(_search_bytes(data, sought, named=named))
    if "text" in found and path.suffix == ".seg" and not _is_own_frame(path, sought):
        found.remove("text")
    yield from found


def _search_stored(name: str, data: bytes, sought: Sought) -> Iterator[str]:
    if name.partition("?")[0].endswith(".parquet"):
        yield from _search_parquet(pa.BufferReader(data), sought)
    else:
        yield from _search_bytes(data, sought, named=False)


def _search_bytes(data: bytes | mmap.mmap, sought: Sought, *, named: bool) -> Iterator[str]:
    if not named and any(data.find(name) >= 0 for name in sought.names):
        yield "name"
    if any(data.find(secret) >= 0 for secret in sought.secrets):
        yield "secret"
    if any(data.find(text) >= 0 for text in sought.texts):
        yield "text"


def _is_own_frame(path: Path, sought: Sought) -> bool:
    """Is a piece in a frame of the account, or in bytes that belong to none?"""
    data, start = path.read_bytes(), 0
    for frame in read_segment(path):
        mine = frame.kind is Kind.DAMAGED or frame.record.get("account") == sought.account
        if mine and any(data.find(text, start, frame.end) >= 0 for text in sought.texts):
            return True
        start = frame.end
    return any(data.find(text, start) >= 0 for text in sought.texts)


def _search_parquet(source: Any, sought: Sought) -> Iterator[str]:
    if "account" in pq.read_schema(source).names:
        if rows_of(source, sought.account):
            yield "rows"
        return
    file = pq.ParquetFile(source)
    for batch in file.iter_batches():
        for data in _buffers(batch):
            if any(data.find(name) >= 0 for name in sought.names):
                yield "name"
            if any(data.find(text) >= 0 for text in sought.texts):
                yield "text"


def _buffers(batch: pa.RecordBatch) -> Iterator[bytes]:
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None:
                yield buffer.to_pybytes()


def strings_in(value: object) -> Iterator[str]:
    """Yield every string inside a JSON value, the names of its fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
