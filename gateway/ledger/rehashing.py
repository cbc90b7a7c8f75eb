"""`traffic verify`: is every row of the lake what was written? Each one is hashed again and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger.configuration import Place
from gateway.ledger.lake import STORED, Lake
from gateway.ledger.rowhash import ROW_HASH, row_hashes

_SHOWN = 20


@dataclass
class RowReport:
    """What hashing again found: `rows` read, of which `unhashed` are older than the hashes and `damaged` differ.

    `places`: where the first 20 damaged rows stand (file, row in it from 0, id, stream, number). `unreadable`: data
    files that are gone or make no sense, with the reason.
    """

    rows: int = 0
    unhashed: int = 0
    damaged: int = 0
    places: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every row is readable and, where it has a hash, as it was written."""
        return self.damaged == 0 and not self.unreadable


def rehash(settings: Place) -> RowReport:
    """Read and hash every row of the lake; right while it is written to."""
    lake = Lake.of(settings)
    while (report := _rehash(lake)) is None:
        continue
    return report


def _rehash(lake: Lake) -> RowReport | None:
    """Read one version of the lake, None where files of it were erased meanwhile: the rows are elsewhere."""
    report = RowReport()
    for path, batches in lake.files(STORED.names):
        row = 0
        try:
            for batch in batches:
                _compare(pa.Table.from_batches([batch]), path, row, report)
                row += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, FileNotFoundError) and not lake.has_file(path):
                return None
            report.unreadable.append({"file": path, "reason": str(error).partition("\n")[0]})
    return report


def _compare(rows: pa.Table, path: str, first: int, report: RowReport) -> None:
    known = rows.column(ROW_HASH).combine_chunks()
    report.rows += rows.num_rows
    report.unhashed += known.null_count
    differs = pc.fill_null(pc.not_equal(known, row_hashes(rows)), False)
    positions = pc.indices_nonzero(differs).to_pylist()
    report.damaged += len(positions)
    for position in positions[: _SHOWN - len(report.places)]:
        found = rows.slice(position, 1).select(["id", "spool_stream", "spool_number"]).to_pylist()[0]
        place = {"id": found["id"], "stream": found["spool_stream"], "number": found["spool_number"]}
        report.places.append({"file": path, "row": first + position} | place)
