"""What was spent, added up from the records: the lake's and those that still wait in the spool."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger.blanking import is_blank
from gateway.ledger.configuration import Place
from gateway.ledger.frames import Kind, read_segment
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.spool import segments, slots

SUBJECTS = ("account", "key", "model")
_COLUMNS = ["id", "time", *SUBJECTS, "cost"]


class Spending:
    """The cost of every live request since a moment, each counted once."""

    def __init__(self, settings: Place, since: datetime) -> None:
        # The spool is read first: a record that moves to the lake in the meantime is then seen twice, never missed.
        self._waiting = _waiting(settings.data_dir / "spool", since)
        chosen = (pc.field("origin") == "live") & (pc.field("time") >= millisecond(since))
        recorded = Lake.of(settings).read(columns=_COLUMNS, filter=chosen)
        known = pa.array(self._waiting, recorded["id"].type)
        self._recorded = recorded.filter(pc.invert(pc.is_in(recorded["id"], value_set=known)))

    def of(self, subject: str, name: str, since: datetime) -> int:
        """Return the nano-dollars of an account, a key or a model since a moment."""
        table = self._recorded
        mine = pc.and_(pc.equal(table[subject], name), pc.greater_equal(table["time"], millisecond(since)))
        recorded: int = pc.sum(table.filter(mine)["cost"]).as_py() or 0
        waiting = (row for row in self._waiting.values() if row.get(subject) == name)
        return recorded + sum(int(row.get("cost", 0)) for row in waiting if from_rfc3339(row["time"]) >= since)


def _waiting(spool: Path, since: datetime) -> dict[str, dict[str, Any]]:
    frames = (frame for folder in slots(spool) for path in segments(folder) for frame in read_segment(path))
    # What was blanked is in the lake, with its cost.
    finals = (dict(frame.record) for frame in frames if frame.kind is Kind.FINAL and not is_blank(frame.record))
    return {record["id"]: record for record in finals if from_rfc3339(record["time"]) >= since}
