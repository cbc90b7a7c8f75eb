"""A task's evaluation rows: frozen with its first snapshot, taken over by the next ones, and kept out of training.

So students of different snapshots have answered the same questions. The rows are renewed when somebody asks for it, and
when they may not be used any more: a withdrawal, an erasure or an alert ends them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from distiller.near_duplicates import groups, near_any
from distiller.rows import Row
from distiller.selection import Rights, Task
from distiller.snapshot import Frozen, verify
from gateway.ledger import snapshots
from gateway.ledger.errors import InvalidValue, LedgerError


@dataclass(frozen=True)
class Earlier:
    """What an earlier snapshot of the task left: its evaluation rows (none: new ones are wanted), and rows' salts.

    `held`: accounts that only they are about. `why`: in words, why there are no rows to take over.
    """

    evaluation: tuple[Row, ...] = ()
    salts: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    held: frozenset[str] = frozenset()


def earlier(connection: sa.Connection, task: Task, rights: Rights, slices: Sequence[str], anew: bool) -> Earlier:
    """Return what the newest snapshot of the task left; `InvalidValue` where other slices are asked for than it has."""
    found = next(
        (s for s, _ in snapshots.every(connection) if (s.task, s.skeleton) == (task.name, task.skeleton)), None
    )
    if found is None:
        return Earlier(why="these are the task's first")
    try:
        frozen = verify(Path(found.path), found.hash)
    except LedgerError as error:
        return Earlier(why=f"those before can't be taken over: {error}")
    salts = {row.id: row.salt for name in ("train", "calibration", "gate") for row in frozen.rows(name)}
    if anew:
        return Earlier(salts=salts, why="asked for")
    rows = tuple(frozen.rows("gate"))
    why = _barred(frozen, rows, task, rights)
    if why:
        return Earlier(salts=salts, why=why)
    if sorted(frozen.manifest["settings"].get("slices", ())) != list(slices):
        raise InvalidValue(
            f"the task's evaluation rows were frozen with the slices {frozen.manifest['settings'].get('slices', [])}: "
            "name the same with --slice, or freeze newer rows with --new-evaluation"
        )
    return Earlier(rows, salts, held=frozenset(frozen.manifest["settings"].get("held_out", ())))


def _barred(frozen: Frozen, rows: Sequence[Row], task: Task, rights: Rights) -> str:
    given = {account: consent.id for account, consent in rights.consents.items()}
    for account in sorted({row.account for row in rows}):
        if account in rights.barred or given.get(account) != frozen.manifest["consents"][account]["id"]:
            return f"{account} withdrew its consent since, or has an open or confirmed alert"
    return "" if frozen.manifest["teacher"]["name"] == task.teacher.name else "another teacher answered them"


def grouped(rows: Sequence[Row]) -> dict[str, str]:
    """Return, by row id, the name of the group that a split must not part: conversations, and texts nearly the same."""
    places = groups([row.text for row in rows], [row.conversation for row in rows])
    return {row.id: rows[place].id for row, place in zip(rows, places, strict=True)}


def apart(rows: Sequence[Row], evaluation: Sequence[Row]) -> tuple[list[Row], int]:
    """Return the rows without the evaluation's, and how many were left out because they are nearly one of those."""
    asked, together = {row.id for row in evaluation}, grouped([*evaluation, *rows])
    taken = {together[row.id] for row in evaluation}
    others = [row for row in rows if row.id not in asked]
    kept = [row for row in others if together[row.id] not in taken]
    return kept, len(others) - len(kept)


def check_apart(learnt: Sequence[Row], evaluation: Sequence[Row]) -> None:
    """Raise `InvalidValue` where a row that is learnt from is, or nearly is, an evaluation row."""
    near = near_any([row.text for row in learnt], [row.text for row in evaluation])
    shared = {row.id for row in learnt} & {row.id for row in evaluation}
    found = [row.id for row, is_near in zip(learnt, near, strict=True) if is_near or row.id in shared]
    if found:
        raise InvalidValue(
            f"{len(found)} training rows are nearly evaluation rows, {found[0]} for one: nothing was frozen, because a "
            "student would be asked what it has learnt; report it, the selection should have left them out"
        )
