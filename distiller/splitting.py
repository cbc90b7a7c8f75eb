"""Rows into train, calibration and gate: by conversation and likeness, then forward in time.

The newest conversations are the gate's, unless its rows were frozen earlier; those before them are the calibration's,
the oldest train. No conversation is in two splits, nor are texts that say nearly the same, and every row of a split is
older than every row of the next: a row of an old conversation that is as new as the next split's first is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from distiller.rows import Row
from gateway.ledger.errors import InvalidValue

NAMES = ("train", "calibration", "gate")


@dataclass(frozen=True)
class Sizes:
    """Rows wanted for the gate and the calibration, and the fewest that training may be left with."""

    gate: int = 450
    calibration: int = 250
    least_train: int = 200


@dataclass(frozen=True)
class Splits:
    """The three parts, each oldest first; rows left out as their group straddles, or their account is held out."""

    train: tuple[Row, ...]
    calibration: tuple[Row, ...]
    gate: tuple[Row, ...]
    straddling: int
    held_out: int = 0

    def named(self) -> dict[str, tuple[Row, ...]]:
        """Return the parts by name, in time's order."""
        return {"train": self.train, "calibration": self.calibration, "gate": self.gate}


def split(
    rows: Sequence[Row],
    sizes: Sizes,
    together: Mapping[str, str] | None = None,
    evaluation: Sequence[Row] = (),
    held: Set[str] = frozenset(),
) -> Splits:
    """Cut the rows; `InvalidValue` with the remedy when there are too few.

    `together` names, by row id, groups that stay in one split (else conversations do). `evaluation`: the gate's rows,
    where they were frozen earlier and are none of `rows`. `held`: accounts that only the gate is about.
    """
    names = together or {row.id: row.conversation for row in rows}
    theirs, others = ([row for row in rows if (row.account in held) is is_held] for is_held in (True, False))
    conversations = _grouped(others, names)
    gate, begin = tuple(evaluation), min((row.time for row in evaluation), default=None)
    if not evaluation:
        gate, begin = _newest(_grouped(theirs, names) if held else conversations, sizes.gate, None)
    asked = {names[row.id] for row in gate if row.id in names}
    conversations = [talk for talk in conversations if names[talk[0].id] not in asked]
    calibration, begin_calibration = _newest(conversations, sizes.calibration, begin)
    train, _ = _newest(conversations, len(rows), begin_calibration)
    if len(train) < sizes.least_train or len(calibration) < sizes.calibration or len(gate) < sizes.gate:
        raise InvalidValue(_too_few(len(rows), sizes))
    spare = len(theirs) - (len(gate) if held and not evaluation else 0)
    learnt = len(train) + len(calibration) + (0 if held or evaluation else len(gate))
    return Splits(train, calibration, gate, len(others) - learnt, spare)


def _grouped(rows: Sequence[Row], together: Mapping[str, str]) -> list[list[Row]]:
    """Groups by the time of their first row, each oldest row first; the list is used up from its end."""
    grouped: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.time, row.id)):
        grouped.setdefault(together[row.id], []).append(row)
    return list(grouped.values())


def _newest(
    conversations: list[list[Row]], wanted: int, before: datetime | None
) -> tuple[tuple[Row, ...], datetime | None]:
    """Take whole conversations from the end until `wanted` rows older than `before` are together."""
    taken: list[Row] = []
    while conversations and len(taken) < wanted:
        taken += [row for row in conversations.pop() if before is None or row.time < before]
    taken.sort(key=lambda row: (row.time, row.id))
    return tuple(taken), taken[0].time if taken else before


def _too_few(rows: int, sizes: Sizes) -> str:
    needed = sizes.gate + sizes.calibration + sizes.least_train
    return (
        f"{rows} usable rows are too few: {sizes.gate} for the gate, {sizes.calibration} for the calibration and at "
        f"least {sizes.least_train} to train on make {needed} (whole conversations are kept together). Wait for more "
        "traffic, or ask for fewer with --gate-rows (the gate never passes under 400), --calibration-rows or "
        "--least-train-rows"
    )
