"""Taking records out of spool segments that are still needed, in place: a segment goes only with all that is in it.

A frame is overwritten by one of the same length, kind and numbers whose record says nothing but its id, so that
everything that counts frames goes on. Only frames that the lake has taken are touched, so no ingester waits for one.
What is about to be written stands in a journal first: after a kill the next attempt writes it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.ledger import durable
from gateway.ledger.frames import Frame, Kind, encode, read_segment
from gateway.ledger.lake import Lake
from gateway.ledger.spool import segments, slots, stream_of

JOURNAL = "blanking.json"
_KEPT = ("id", "time", "origin", "endpoint", "status")
_FILLER = "filler"

Chosen = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Waiting:
    """Chosen records that can't be taken out yet: `under_way` are not finished, `unread` not in the lake."""

    under_way: int = 0
    unread: int = 0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.under_way or self.unread)


def blank(spool: Path, lake: Lake, chosen: Chosen) -> tuple[int, Waiting]:
    """Overwrite the chosen records as far as the lake has taken them; return how many, and what has to wait."""
    with durable.turn(spool / "blanking.lock"):
        return _blank(spool, lake, chosen)


def is_blank(record: Mapping[str, Any]) -> bool:
    """Return whether a frame's record is what `blank` left of it."""
    return _FILLER in record


def discard_damaged(spool: Path) -> list[Path]:
    """Remove bytes that belong to no frame and so to nobody: `.torn` files, and damaged stretches of segments."""
    torn = sorted(spool.glob("*/*.torn"))
    for path in torn:
        path.unlink()
    for folder in slots(spool):
        for path in segments(folder):
            stretches = [(start, frame.end) for start, frame in _framed(path) if frame.kind is Kind.DAMAGED]
            _write(path, [(start, bytes(end - start)) for start, end in stretches])
    return torn


def _blank(spool: Path, lake: Lake, chosen: Chosen) -> tuple[int, Waiting]:
    _replay(spool / JOURNAL)
    blanked = under_way = unread = 0
    for folder in slots(spool):
        committed = lake.last_transaction(stream_of(folder) or "") or 0
        open_numbers = _open_numbers(folder, committed)
        for path in segments(folder):
            found = [(start, frame) for start, frame in _framed(path) if _is_chosen(frame, chosen)]
            ready = [item for item in found if item[1].number not in open_numbers]
            under_way += len({frame.number for _, frame in found} & open_numbers)
            late = [frame for _, frame in ready if frame.frame > committed and frame.kind is Kind.FINAL]
            unread += len(late)
            late_numbers = {frame.number for frame in late}
            _overwrite(spool, path, [item for item in ready if item[1].number not in late_numbers])
            blanked += sum(frame.kind is Kind.FINAL and frame.number not in late_numbers for _, frame in ready)
    return blanked, Waiting(under_way, unread)


def _is_chosen(frame: Frame, chosen: Chosen) -> bool:
    return frame.kind in (Kind.START, Kind.FINAL) and not is_blank(frame.record) and chosen(frame.record)


def _framed(path: Path) -> Iterator[tuple[int, Frame]]:
    """Yield a segment's frames with the offset that each begins at."""
    start = 0
    try:
        for frame in read_segment(path):
            yield start, frame
            start = frame.end
    except FileNotFoundError:  # Ingested and deleted since it was listed.
        return


def _open_numbers(folder: Path, committed: int) -> set[int]:
    """Return the numbers of requests that have begun and neither finished nor, in the lake, been given up."""
    begun: dict[int, int] = {}
    for path in segments(folder):
        for _, frame in _framed(path):
            if frame.kind is Kind.START:
                begun[frame.number] = frame.frame
            elif frame.kind is Kind.FINAL:
                begun.pop(frame.number, None)
            elif frame.kind is Kind.HEAD and frame.record.get("opened") and frame.frame <= committed:
                begun.clear()  # Its writer died; the lake has them as interrupted.
    return set(begun)


def _overwrite(spool: Path, path: Path, found: list[tuple[int, Frame]]) -> None:
    if not found:
        return
    entries = [
        {
            "start": start,
            "size": frame.end - start,
            "kind": int(frame.kind),
            "frame": frame.frame,
            "number": frame.number,
            "record": {name: frame.record[name] for name in _KEPT if name in frame.record},
        }
        for start, frame in found
    ]
    journal = {"segment": str(path.relative_to(spool)), "entries": entries}
    durable.write(spool / JOURNAL, json.dumps(journal).encode())
    _replay(spool / JOURNAL)


def _replay(journal: Path) -> None:
    if not journal.exists():
        return
    written = json.loads(journal.read_bytes())
    path = journal.parent / written["segment"]
    if path.exists():
        _write(path, [(entry["start"], _stub(entry)) for entry in written["entries"]])
    durable.remove(journal)


def _stub(entry: Mapping[str, Any]) -> bytes:
    """Return a frame of exactly the size of the one it stands for."""
    record = {**entry["record"], _FILLER: ""}
    while True:
        bare = encode(Kind(entry["kind"]), entry["frame"], entry["number"], record)
        missing = entry["size"] - len(bare)
        if missing >= 0:
            record[_FILLER] = " " * missing
            return encode(Kind(entry["kind"]), entry["frame"], entry["number"], record)
        # A record that had hardly more than its id: the least telling field makes room.
        record.pop(next(name for name in reversed(_KEPT) if name in record))


def _write(path: Path, pieces: list[tuple[int, bytes]]) -> None:
    if not pieces:
        return
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for start, data in pieces:
            os.pwrite(descriptor, data, start)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
