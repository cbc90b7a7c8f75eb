"""Assesses what a suspect took: a security probe that learns from its answers, beside one that learns from others'.

It is for a person who decides about an alert, and decides nothing: no score, measure, snapshot or student comes of it.
The probes live in the memory of one child process, which is refused every file, and end with it; what stays are figures
in the audit log. docs/decisions/0041-the-probe.md says why rows may be read here that may not train a student.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distiller import collected, probe_sets
from distiller.child import Show, TrainingFailed, child, follow
from distiller.collected import Taken
from distiller.gains import Gain, gain_of
from distiller.launch import alone, teacher_folder
from distiller.probe_sets import LEAST_HELD_OUT, LEAST_ROWS, LEAST_SEEDS, MOST_HELD_OUT, ProbeSets
from distiller.selection import WORDS
from gateway.ledger import alerts, audit, opt_outs
from gateway.ledger.alerts import Alert
from gateway.ledger.database import Database
from gateway.ledger.errors import InvalidValue
from gateway.ledger.lake import Lake
from gateway.settings import ModelSettings, Settings

BEGUN, DONE = "alert.assess", "alert.assessed"
# The kernel refuses the child every byte of a file, a core dump's included.
_LIMITS = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
_SPARE = 4  # times the rows that a probe learns from are looked for, so that seeds draw different ones


@dataclass(frozen=True)
class Probe:
    """How a probe is made: small, for two cores without a GPU, and the same for both sides.

    `layers` of the teacher are kept; lengths are in tokens. `rows` each learns from, `seeds` of each side are trained.
    """

    rows: int = LEAST_ROWS
    seeds: int = LEAST_SEEDS
    layers: int = 3
    epochs: int = 1
    batch_size: int = 4
    learning_rate: float = 1e-3
    longest_prompt: int = 64
    longest_answer: int = 32


@dataclass(frozen=True)
class Bench:
    """Where an assessment happens, and for whom. `teacher_path` overrides the settings' folder of the weights."""

    settings: Settings
    database: Database
    actor: str
    show: Show
    teacher_path: Path | None = None


@dataclass(frozen=True)
class Assessment:
    """The figures, and no text: `domain` on held-out prompts of the suspect's own, `general` on those of others.

    `tokens` of answers that a probe of each side learnt from, on average. `left_out` counts the suspect's rows by
    reason. `apart`: the general prompts are of accounts that no probe learnt from. `ordinary_accounts` is their number.
    """

    alert: str
    accounts: tuple[str, ...]
    teacher: str
    probe: Probe
    parameters: int
    usable: int
    left_out: dict[str, int]
    ordinary_accounts: int
    apart: bool
    tokens: dict[str, int]
    domain: Gain
    general: Gain
    seconds: float

    def as_row(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def assess(bench: Bench, alert_id: str, probe: Probe, note: str) -> Assessment:
    """Train the probes for an alert and measure them; the figures go into the audit log, the probes with their process.

    Raises `NotFound` for an unknown alert or unknown weights, `InvalidValue` where rows are too few, saying how many
    are missing, `Forbidden` while another training is under way, `TrainingFailed` with the child's words.
    """
    started = time.monotonic()
    _check(probe)
    lake, data_dir = Lake.of(bench.settings), bench.settings.data_dir
    with alone(data_dir / "students"):
        _sweep(data_dir / "probes")
        with bench.database.read() as connection:
            alert = alerts.get(connection, alert_id)
            named = {name for other in alerts.every(connection) for name in other.accounts}
            opted_out = opt_outs.every(connection)
        teacher = collected.teacher_of(lake, bench.settings, alert.accounts)
        weights = bench.teacher_path or teacher_folder(bench.settings, teacher.name)
        begun = {"accounts": alert.accounts, "teacher": teacher.name, "probe": asdict(probe)}
        _note(bench, alert, BEGUN, note, begun)
        suspect = collected.suspects_rows(lake, alert.accounts, teacher)
        _check_enough(alert, teacher, suspect, probe.rows)
        others = collected.others_rows(lake, named, teacher, opted_out, _SPARE * probe.rows + MOST_HELD_OUT)
        sets = probe_sets.divide(suspect.rows, others.rows, probe.rows)
        _check_sets(alert, sets, probe.rows)
        drawn = {seed: sets.drawn(seed, probe.rows) for seed in range(1, probe.seeds + 1)}
        found = train_probes(bench, weights, probe, sets, drawn)
        made = _assessment(alert, teacher, probe, suspect, sets, drawn, found, time.monotonic() - started)
        _note(bench, alert, DONE, note, made.as_row())
    return made


def _check(probe: Probe) -> None:
    if probe.rows < LEAST_ROWS or probe.seeds < LEAST_SEEDS:
        raise InvalidValue(
            f"a probe of {probe.rows} rows and {probe.seeds} seeds says nothing: it takes {LEAST_ROWS} rows (--rows) "
            f"and {LEAST_SEEDS} seeds (--seeds) or more"
        )


def _sweep(folder: Path) -> None:
    """Remove what a killed assessment left, the names of its code: the lock is ours, so nobody works there."""
    shutil.rmtree(folder, ignore_errors=True)


def _note(bench: Bench, alert: Alert, action: str, note: str, detail: Mapping[str, Any]) -> None:
    with bench.database.write() as connection:
        audit.record(connection, bench.actor, action, alert.account, reason=note, **{**detail, "alert": alert.id})


def _check_enough(alert: Alert, teacher: ModelSettings, suspect: Taken, size: int) -> None:
    missing = size + LEAST_HELD_OUT - len(suspect.rows)
    if missing <= 0:
        return
    left_out = ", ".join(f"{count} {WORDS[reason]}" for reason, count in suspect.left_out.items()) or "nothing"
    raise InvalidValue(
        f"{_names(alert)}: {len(suspect.rows)} answers of {teacher.name!r} can be learnt from, {missing} too few: "
        f"{size} train a probe and at least {LEAST_HELD_OUT} more are held out. Left out: {left_out}. "
        f"{_remedy(suspect)}"
    )


def _remedy(suspect: Taken) -> str:
    if not suspect.left_out.get("no_text"):
        return "Assess it again when more have come"
    return (
        "Text that was not kept can't be had again. To assess what comes from now on, have it kept: `spiritsafe "
        "accounts retention NAME --no-zero` ends zero retention, `spiritsafe accounts hold NAME --note …` keeps text "
        "from ageing; a request's own `x-spiritsafe-no-log` stands"
    )


def _check_sets(alert: Alert, sets: ProbeSets, size: int) -> None:
    """Refuse sets that are too small, saying what is missing."""
    parts: Sequence[tuple[str, int, int]] = (
        (f"held-out rows of {_names(alert)}", len(sets.domain), LEAST_HELD_OUT),
        ("held-out rows of accounts without an alert", len(sets.general), LEAST_HELD_OUT),
        (f"rows of {_names(alert)} that are not near to held-out ones", len(sets.suspect), size),
        ("rows of accounts without an alert that are not near to held-out ones", len(sets.ordinary), size),
    )
    lacking = [f"{least - had} {what} ({had} of {least})" for what, had, least in parts if had < least]
    if lacking:
        raise InvalidValue(
            f"too few rows that differ enough to tell learning from repeating; missing are {', and '.join(lacking)}. "
            "Rows that say nearly the same, and whole conversations, are held out together or not at all. Assess it "
            "again when more traffic has been recorded with its text"
        )


def train_probes(
    bench: Bench, weights: Path, probe: Probe, sets: ProbeSets, drawn: Mapping[int, tuple[list[int], list[int]]]
) -> dict[str, Any]:
    """Have the probes trained and measured in the distiller's environment: rows go through a pipe, figures come."""
    folder = bench.settings.data_dir / "probes" / str(os.getpid())
    folder.mkdir(parents=True, mode=0o700)
    work = {
        "teacher": str(weights.resolve()),
        **{name: value for name, value in asdict(probe).items() if name not in ("rows", "seeds")},
        "threads": bench.settings.distiller.threads,
        "rows": [one.document() for one in sets.rows],
        "held_out": {"domain": sets.domain, "general": sets.general},
        "probes": [
            {"side": side, "seed": seed, "rows": places}
            for seed, sides in drawn.items()
            for side, places in zip(("suspect", "ordinary"), sides, strict=True)
        ],
    }
    try:
        with child(
            bench.settings, folder, "probing", [], stdin=subprocess.PIPE, stderr=subprocess.STDOUT, limits=_LIMITS
        ) as started:
            _hand_over(started, work)
            found, words = follow(started.stdout or (), bench.show)
    finally:
        _sweep(folder.parent)
    if started.returncode != 0 or not found:
        said = "".join(words).strip()[-2000:] or f"it ended with status {started.returncode} and no word"
        killed = " A process that is killed ran out of memory, as a rule." if started.returncode < 0 else ""
        raise TrainingFailed(f"nothing was assessed, and nothing of it is kept. {said}{killed}")
    return found[-1]


def _hand_over(started: subprocess.Popen[str], work: Mapping[str, Any]) -> None:
    if started.stdin is None:
        return
    try:
        with started.stdin as pipe:
            json.dump(work, pipe)
    except BrokenPipeError:
        pass  # it has ended already, and says why


def _assessment(
    alert: Alert,
    teacher: ModelSettings,
    probe: Probe,
    suspect: Taken,
    sets: ProbeSets,
    drawn: Mapping[int, tuple[list[int], list[int]]],
    found: Mapping[str, Any],
    seconds: float,
) -> Assessment:
    tokens = found["answer_tokens"]
    learnt = {
        side: round(sum(tokens[row] for rows in drawn.values() for row in rows[place]) / len(drawn))
        for place, side in enumerate(("suspect", "ordinary"))
    }
    ordinary = {sets.rows[place].row.account for _, places in drawn.values() for place in places}
    return Assessment(
        alert=alert.id,
        accounts=tuple(alert.accounts),
        teacher=teacher.name,
        probe=probe,
        parameters=found["parameters"],
        usable=len(suspect.rows),
        left_out=suspect.left_out,
        ordinary_accounts=len(ordinary),
        apart=sets.apart,
        tokens=learnt,
        domain=_gain(found, "domain", sets, sets.domain),
        general=_gain(found, "general", sets, sets.general),
        seconds=round(seconds, 1),
    )


def _gain(found: Mapping[str, Any], kind: str, sets: ProbeSets, places: Sequence[int]) -> Gain:
    def losses(side: str) -> list[list[float]]:
        return [probe["losses"][kind] for probe in found["probes"] if probe["side"] == side]

    groups = [sets.groups[place] for place in places]
    return gain_of(losses("suspect"), losses("ordinary"), groups, found["untrained"][kind], found["teacher"][kind])


def _names(alert: Alert) -> str:
    names = alert.accounts
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
