"""From what somebody wants to a frozen snapshot that waits for approval."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from distiller.evaluation_sets import Earlier, apart, check_apart, earlier, grouped
from distiller.held_out import held_out
from distiller.launch import check_rights
from distiller.selection import MOST_PER_ACCOUNT, WORDS, Rights, Selection, Task, rights_now, select
from distiller.snapshot import Frozen, freeze
from distiller.splitting import Sizes, Splits, split
from gateway.ledger import snapshots
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden, InvalidValue
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.snapshots import Snapshot
from gateway.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What a snapshot is made with; it is in the manifest but for the requester, so that it can be made again.

    `without`: accounts whose rows are left out, whatever their rights. `new_evaluation`: freeze newer evaluation rows.
    `by_account`: evaluate on accounts that nothing is learnt from, where there are enough.
    """

    requester: str
    since: str | None = None
    slices: tuple[str, ...] = ()
    sizes: Sizes = field(default_factory=Sizes)
    most_per_account: int = MOST_PER_ACCOUNT
    without: tuple[str, ...] = ()
    new_evaluation: bool = False
    by_account: bool = True

    def as_settings(self, approvals: int) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            **asdict(self.sizes),
            "since": self.since,
            "slices": list(self.slices),
            "most_per_account": self.most_per_account,
            "without": list(self.without),
            "by_account": self.by_account,
            "approvals": approvals,
        }


def wanted_by(manifest: Mapping[str, Any], requester: str) -> Wanted:
    """Return what a snapshot was made with, from its manifest."""
    settings = manifest["settings"]
    sizes = Sizes(**{name: settings[name] for name in asdict(Sizes()) if name in settings})
    slices, without = (tuple(settings.get(name, ())) for name in ("slices", "without"))
    most = settings.get("most_per_account", MOST_PER_ACCOUNT)
    by_account = settings.get("by_account", True)
    return Wanted(requester, settings["since"], slices, sizes, most, without, by_account=by_account)


def propose(settings: Settings, database: Database, task: Task, wanted: Wanted, say: Callable[[str], None]) -> Snapshot:
    """Select, split and freeze, and register the snapshot; `InvalidValue` with what was left out where rows are few.

    `Forbidden` where a right was withdrawn meanwhile; then nothing is left on the disk.
    """
    lake = Lake.of(settings)
    with database.read() as connection:
        rights = _without(rights_now(connection, task.teacher), wanted.without)
        before = earlier(connection, task, rights, wanted.slices, wanted.new_evaluation)
    since = None if wanted.since is None else from_rfc3339(wanted.since)
    selection = select(lake, task, rights, since, wanted.slices, wanted.most_per_account)
    selection = replace(
        selection, rows=tuple(replace(row, salt=before.salts.get(row.id, "")) for row in selection.rows)
    )
    selection, splits, held = _split(selection, wanted, before)
    say(_words(before, splits, held))
    stated = wanted.as_settings(settings.distiller.approvals) | {"held_out": sorted(held)}
    frozen = freeze(settings.data_dir / "snapshots", task, selection, splits, rights, stated)
    try:
        with database.write() as connection:
            check_rights(connection, frozen)  # a withdrawal since the rights were read still counts
            return snapshots.propose(connection, _row(frozen, wanted.requester))
    except Forbidden:
        _discard(database, frozen)
        raise


def in_words(left_out: Mapping[str, int]) -> str:
    """Say how many rows were left out for which reasons."""
    return "; ".join(f"{count} because {WORDS[reason]}" for reason, count in left_out.items()) or "nothing"


def _without(rights: Rights, accounts: tuple[str, ...]) -> Rights:
    return replace(rights, consents={name: row for name, row in rights.consents.items() if name not in accounts})


def _split(selection: Selection, wanted: Wanted, before: Earlier) -> tuple[Selection, Splits, frozenset[str]]:
    """Return the selection without what is contaminated, its splits, and the accounts that only the gate is about."""
    sizes = wanted.sizes
    if before.evaluation and sizes.gate > len(before.evaluation):
        raise InvalidValue(
            f"the task's evaluation rows are frozen, {len(before.evaluation)} of them: ask for no more with "
            "--gate-rows, or freeze newer ones with --new-evaluation"
        )
    rows, contaminated = apart(selection.rows, before.evaluation)
    left_out = selection.left_out | ({"contaminated": contaminated} if contaminated else {})
    held = before.held
    if not before.evaluation and wanted.by_account:
        held = held_out(rows, sizes)
    try:
        splits = split(rows, sizes, grouped(rows), before.evaluation, held)
    except InvalidValue as error:
        raise InvalidValue(f"{error}. Left out: {in_words(left_out)}") from error
    check_apart([*splits.train, *splits.calibration], splits.gate)
    return replace(selection, rows=tuple(rows), left_out=left_out), splits, held


def _words(before: Earlier, splits: Splits, held: frozenset[str]) -> str:
    if before.evaluation:
        return f"The task's {len(splits.gate)} evaluation rows are those frozen before; only older rows train."
    about = f" They are about {len(held)} accounts that nothing is learnt from." if held else ""
    return f"{len(splits.gate)} evaluation rows are frozen anew: {before.why}.{about}"


def _row(frozen: Frozen, requester: str) -> Snapshot:
    manifest = frozen.manifest
    task, endpoint, skeleton = (manifest[name] for name in ("task", "endpoint", "skeleton"))
    return snapshots.new(frozen.hash, task, endpoint, skeleton, str(frozen.path), requester, frozen.report)


def _discard(database: Database, frozen: Frozen) -> None:
    """Remove a folder that nobody proposed; one that was proposed earlier is the withdrawal's to take care of."""
    with database.read() as connection:
        proposed = any(snapshot.hash == frozen.hash for snapshot, _ in snapshots.every(connection))
    if not proposed:
        shutil.rmtree(frozen.path)
