"""`traffic maintain`: what the lake needs once a night, step by step, while everything runs.

Readers and followers notice nothing but that rows go which may not stay. Writers take turns with a step, which the
spool bridges; a step that is killed has done its work or none of it, and the next night begins it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.ledger import erasing, erasures, holds, retention, retirements
from gateway.ledger.configuration import Place, RetentionSettings
from gateway.ledger.erasing import Surroundings, Unfinished
from gateway.ledger.errors import Forbidden
from gateway.ledger.lake import Lake
from gateway.ledger.storage import Storage
from gateway.ledger.traffic import today

logger = logging.getLogger(__name__)

_ORDERED = "ordered.json"


@dataclass(frozen=True)
class Step:
    """A step: its name, and what does it for a data folder and returns how many files it rewrote or unlinked."""

    name: str
    run: Callable[[Place], int]


@dataclass(frozen=True)
class StepReport:
    """What a step did."""

    step: str
    files: int
    seconds: float


def maintain(settings: Place, steps: Sequence[Step] | None = None) -> Iterator[StepReport]:
    """Do the steps (default: `STEPS`, of the lake alone) one after the other, and tell of each."""
    for step in STEPS if steps is None else steps:
        started = time.monotonic()
        files = step.run(settings)
        yield StepReport(step.name, files, round(time.monotonic() - started, 3))


def nightly(settings: RetentionSettings, around: Surroundings, withdrawn_days: int) -> tuple[Step, ...]:
    """Return all steps of a night: what may not stay goes first, so that it is not merged and ordered before.

    `withdrawn_days`: how long a student may answer that learnt from rows which were withdrawn or erased since.
    """
    return (
        Step("erasures", lambda _place: _go_on_erasing(around)),
        Step("withdrawn students", lambda _place: _retire(around, withdrawn_days)),
        Step("retention", lambda _place: retention.apply(settings, around.database).files),
        *STEPS,
    )


def _go_on_erasing(around: Surroundings) -> int:
    """Go on with what stopped before its end; an erasure that is held or has to wait is left for the next night."""
    with around.database.read() as connection:
        held = holds.in_force(connection)
        stopped = [row for row in erasures.every(connection) if row.finished is None and row.account not in held]
    for row in stopped:
        try:
            (erasing.erase if row.kind == "erasure" else erasing.withdraw)(around, row.account, row.actor)
        except (Unfinished, Forbidden) as error:
            logger.warning("%s %s is left for the next night: %s", row.kind, row.id, error)
    return 0


def _retire(around: Surroundings, days: int) -> int:
    with around.database.write() as connection:
        for reference in retirements.retire_due(connection, days, "maintenance"):
            logger.warning("%s is retired: rows that it learnt from were withdrawn or erased", reference)
    return 0


def _lake(settings: Place) -> Lake:
    return Lake.of(settings)


def _compact(settings: Place) -> int:
    return _lake(settings).tidy(1)


def _order(settings: Place) -> int:
    """Z-order each day that is over and whose files are not the ones that this made of it."""
    lake = _lake(settings)
    notes = _Notes(lake.storage)
    files = 0
    for day in lake.days():
        if day < today() and notes.get(day) != _name_of(lake.paths(day)):
            files += lake.order(day)
            notes.put(day, _name_of(lake.paths(day)))
    return files


def _erase(settings: Place) -> int:
    lake = _lake(settings)
    lake.erase_replaced()
    return lake.storage.merge_notes()


# Their order matters: today's files are few after the first, closed days in order after the second.
STEPS: tuple[Step, ...] = (Step("compact", _compact), Step("order", _order), Step("erase replaced files", _erase))


class _Notes:
    """Which files each day was ordered into; lost or damaged, they cost one more night's work."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, day: str) -> str | None:
        """Return the name of a day's files when it was ordered."""
        return self._read().get(day)

    def put(self, day: str, name: str) -> None:
        """Note it."""
        self._storage.write(_ORDERED, json.dumps(self._read() | {day: name}, sort_keys=True).encode())

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._storage.read(_ORDERED) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def _name_of(paths: list[str]) -> str:
    return hashlib.sha256("\n".join(os.path.basename(path) for path in paths).encode()).hexdigest()
