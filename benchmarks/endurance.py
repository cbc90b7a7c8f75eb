"""`make bench-endurance`: half an hour at 70 % load while backends and workers are killed and settings are reloaded.

A whole house without models of its own serves an open loop of streams and whole answers from scripted upstreams. At the
end every request must be accounted for: answered, properly refused, or reset by a worker that was killed under it; with
one record each that says the same, no more and no fewer; and memory must be flat. The last line is one JSON object;
the status is 1 where anything is against this, and the house's folder is kept then.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks.rig import memory
from benchmarks.rig.accounting import rig
from benchmarks.rig.disturbances import Conductor, schedule
from benchmarks.rig.house import House, HouseProblem, running
from benchmarks.rig.reconciliation import Books, reconcile
from benchmarks.rig.witness import Witness

LOAD = 0.7
SHOWN = 20  # kinds of violations
PROGRESS_S = 60.0


@dataclass
class Outcome:
    """What a run has shown."""

    rate: float
    most: float | None
    seconds: float
    books: Books
    events: Counter[str]
    memory: list[memory.Course]
    violations: list[str] = field(default_factory=list)


async def trial(house: House, seconds: float, seed: int, rate: float | None) -> Outcome:
    """Load and disturb a house that runs, let it settle, and compare."""
    witness, conductor = Witness(house.port, house.key, seed), Conductor(house)
    most = await witness.most_per_second() if rate is None else None
    chosen = rate if rate is not None else LOAD * (most or 0.0)
    print(f"{chosen:.1f} requests/s for {seconds / 60:.1f} minutes, seed {seed}", flush=True)
    samples: list[memory.Sample] = []
    watchers = [
        asyncio.create_task(memory.watch(house.processes, samples)),
        asyncio.create_task(_tell(witness, samples)),
    ]
    lanes = [asyncio.create_task(conductor.play(events)) for events in schedule(seconds, seed)]
    await witness.open_loop(chosen, seconds)
    await asyncio.gather(*lanes)
    for watcher in watchers:
        watcher.cancel()
    verified = await asyncio.to_thread(house.settled)
    books = reconcile(witness.sent, house.records(), conductor.deaths)
    courses = memory.courses(samples)
    events = Counter(conductor.done)
    ended = Counter(f"gateway-{death.worker}" for death in conductor.deaths)
    ended["ingester"] = events["kill the ingester"]
    violations = [*conductor.violations, *books.violations, *_unsound(verified), *unsteady(courses, ended)]
    return Outcome(chosen, most, seconds, books, events, courses, violations)


async def _tell(witness: Witness, samples: list[memory.Sample]) -> None:
    """Say every minute how it goes."""
    began, seen = time.monotonic(), len(witness.sent)
    while True:
        await asyncio.sleep(PROGRESS_S)
        fresh, seen = witness.sent[seen:], len(witness.sent)
        endings = Counter(request.ending if request.ended else "under way" for request in fresh)
        newest = {sample.name: round(sample.mb) for sample in samples[-10:]}
        print(
            f"{(time.monotonic() - began) / 60:.0f} min: {_listed(endings)}; resident MB: {_listed(newest)}", flush=True
        )


def _unsound(verified: Sequence[dict[str, Any]]) -> list[str]:
    return [f"traffic verify: {row}" for row in verified if not row["sound"] or row["damaged"]]


def unsteady(courses: Sequence[memory.Course], ended: Counter[str]) -> list[str]:
    """Say which processes grew, and which ended oftener than they were made to."""
    grown = [
        f"memory of {course.name} grew from {course.first_mb:.0f} to {course.last_mb:.0f} MB"
        for course in courses
        if course.is_flat is False
    ]
    return grown + [
        f"{course.name} has lived {course.lives} times and was ended {ended[course.name]} times"
        for course in courses
        if course.lives > ended[course.name] + 1
    ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _print_table(outcome: Outcome) -> None:
    books, endings = outcome.books, outcome.books.endings
    print(f"\n{endings.total()} requests sent, {books.records} records")
    answered = endings["whole"] + endings["stream"]
    print(f"  answered           {answered:>8}  whole {endings['whole']}, streams {endings['stream']}")
    print(f"  streams that failed{endings['failed']:>8}")
    print(f"  refused            {endings['refused']:>8}")
    print(f"  reset by a kill    {endings['reset']:>8}  {_listed(books.resets)}")
    print(f"  broken or silent   {endings['broken'] + endings['silent']:>8}")
    for name, count in sorted(books.refusals.items()):
        print(f"    {name:40} {count:>6}")
    print(f"events: {_listed(outcome.events)}")
    print(f"\n{'resident memory':20} {'lives':>5} {'seconds':>8} {'first MB':>9} {'last MB':>9} {'MB/min':>8}")
    for course in outcome.memory:
        figures = f"{'':28}"
        if course.first_mb is not None:
            figures = f"{course.first_mb:>9.1f} {course.last_mb:>9.1f} {course.slope:>8.2f}"
        verdict = {None: "too short to say", True: "flat", False: "grew"}[course.is_flat]
        print(f"{course.name:20} {course.lives:>5} {course.seconds:>8.0f} {figures}  {verdict}")
    print(f"\n{len(outcome.violations)} violations")
    for words, count in kinds_of(outcome.violations).most_common(SHOWN):
        print(f"{count:>8}  {words}")
    sys.stdout.flush()


def kinds_of(violations: Sequence[str]) -> Counter[str]:
    """Count violations that differ in names and numbers only."""
    return Counter(re.sub(r"\d+(\.\d+)?", "…", words) for words in violations)


def _document(outcome: Outcome, seed: int) -> dict[str, Any]:
    return {
        "benchmark": "endurance",
        "rig": rig(),
        "seed": seed,
        "minutes": round(outcome.seconds / 60, 2),
        "rate": round(outcome.rate, 1),
        "most": None if outcome.most is None else round(outcome.most, 1),
        "sent": outcome.books.endings.total(),
        "endings": outcome.books.endings,
        "refusals": outcome.books.refusals,
        "resets": outcome.books.resets,
        "records": outcome.books.records,
        "events": outcome.events,
        "memory": [vars(course) | {"flat": course.is_flat} for course in outcome.memory],
        "violations": len(outcome.violations),
        "kinds_of_violations": dict(kinds_of(outcome.violations).most_common(SHOWN)),
    }


def run(folder: Path, seconds: float, seed: int, rate: float | None) -> Outcome:
    """Build a house in a folder, try it, and stop it."""
    with running(folder) as house:
        return uvloop.run(trial(house, seconds, seed, rate))


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="How long.")
@click.option("--seed", default=1, show_default=True, help="Decides what happens when, and who asks for what.")
@click.option("--rate", type=float, default=None, help="Requests a second; default: 70 % of the most it carries.")
def main(minutes: float, seed: int, rate: float | None) -> None:
    """Try a house's endurance."""
    folder = Path(tempfile.mkdtemp(prefix="endurance-"))
    try:
        outcome = run(folder, minutes * 60, seed, rate)
    except HouseProblem as problem:
        sys.exit(f"error: {problem}")
    _print_table(outcome)
    if outcome.violations:
        (folder / "violations.txt").write_text("\n".join(outcome.violations))
        print(f"the house's folder is kept, with violations.txt in it: {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    print(json.dumps(_document(outcome, seed)), flush=True)
    sys.exit(bool(outcome.violations))


if __name__ == "__main__":
    main()
