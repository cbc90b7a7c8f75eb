"""One evaluation from a student's name to the gate's decision in the registry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distiller.evaluation import (
    STREAMS,
    Answers,
    Served,
    Show,
    Speed,
    ask_both,
    measure_speed,
    right,
    scores,
    student_prices,
)
from distiller.fixed_rules import check_attempts, evaluation_tested, is_candidate, looks, rule_of
from distiller.gate import Rule, decide
from distiller.rows import Row
from distiller.slices import decide_slices
from distiller.snapshot import verify
from gateway.ledger import registry, snapshots
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.registry import Student
from gateway.settings import ModelSettings, Settings

CORRECTNESS = "correctness against known answers"
AGREEMENT = "agreement with the teacher's logged answers, for want of known ones"
EXAMPLES = 20


class TooFewPairs(InvalidValue):
    """The known answers are too few for a verdict; nothing was asked, and nothing spent."""


@dataclass(frozen=True)
class Surroundings:
    """What an evaluation needs from outside: settings, registry, who acts, and where to report."""

    settings: Settings
    database: Database
    actor: str
    say: Callable[[str], None]
    show: Show
    wait_s: float = 300.0


@dataclass(frozen=True)
class Demand:
    """What the caller asks of the gate; None takes what was fixed before training, anything else must equal it."""

    margin: float | None = None
    alpha: float | None = None
    concurrency: int = 8


def evaluate(around: Surroundings, reference: str, answers: Mapping[str, str] | None, demand: Demand) -> Student:
    """Ask, compare, decide and write the verdict; returns the student as `candidate` or `refused`.

    It stays `trained` where there was no verdict. Raises `TooFewPairs`, before anybody is asked, where the known
    answers are too few to be worth a test; `Forbidden` where the evaluation rows are spent.
    """
    with around.database.read() as connection:
        student = registry.get(connection, reference)
        snapshot = snapshots.get(connection, student.snapshot)
    if student.state != "trained":
        raise Forbidden(f"{student.reference} is {student.state}: the gate decides once, train a new version instead")
    rule = _rule(student, demand)
    rows, known = _questions(verify(Path(snapshot.path), snapshot.hash).rows("gate"), answers)
    _check_enough(student, rule, len(rows))
    if is_candidate(student):
        with around.database.read() as connection:
            check_attempts(connection, evaluation_tested(student), rule)
    teacher = _teacher(around.settings, student)
    served = Served(_wait_for_url(around, student), student.reference), Served(teacher.urls[0], teacher.name)
    around.say(f"Asking {student.reference} and {teacher.name} {len(rows)} held-out requests each.")
    given = asyncio.run(ask_both(rows, *served, demand.concurrency, around.show))
    around.say(f"Measuring the speed of both at {' and '.join(map(str, STREAMS))} streams.")
    speed = asyncio.run(measure_speed(rows, *served))
    report = _report(rows, known, given, rule, AGREEMENT if answers is None else CORRECTNESS) | _speed_report(speed)
    report["looks"] = looks(student) + 1
    return _record(around, student, report, student_prices(teacher.nano_prices, speed))


def _record(
    around: Surroundings, student: Student, report: dict[str, Any], prices: tuple[tuple[int, int], str]
) -> Student:
    if report["passed"] and not is_candidate(student):
        report |= {
            "passed": False,
            "verdict": f"refused: a baseline is measured, never a candidate ({report['verdict']})",
        }
    with around.database.write() as connection:
        if is_candidate(student):
            # Another version's test may have spent the attempt while this one was asked.
            check_attempts(connection, evaluation_tested(student), rule_of(student))
        if report["outcome"] == "no verdict":
            return registry.record_undecided(connection, student.reference, report, around.actor)
        passed = bool(report["passed"])
        return registry.record_gate(connection, student.reference, passed, report, *prices, around.actor)


def _check_enough(student: Student, rule: Rule, pairs: int) -> None:
    earlier = (student.gate or {}).get("pairs", 0)
    missing = max(rule.planned_pairs - pairs, earlier + 1 - pairs)
    if missing > 0:
        raise TooFewPairs(
            f"no verdict: {pairs} pairs are too few, {missing:,} more are missing ({rule.words_of_planning()}). Nobody "
            "was asked and nothing is spent: give answers for more of the gate rows, or select a snapshot with more of "
            "them (--gate-rows)"
        )


def _rule(student: Student, demand: Demand) -> Rule:
    rule = rule_of(student)
    for name, asked in (("margin", demand.margin), ("alpha", demand.alpha)):
        fixed = getattr(rule, name)
        if asked is not None and asked != fixed:
            raise Forbidden(
                f"--{name} {asked} is not the {fixed} that was fixed before {student.reference} was trained: leave it "
                "out, or train a new version with the other value"
            )
    return rule


def _questions(rows: Sequence[Row], answers: Mapping[str, str] | None) -> tuple[list[Row], list[str]]:
    """Return the gate's rows whose right answer is known, and these answers."""
    if answers is None:
        return list(rows), [row.answer for row in rows]
    asked = [row for row in rows if row.id in answers]
    if not asked:
        raise InvalidValue(
            f"none of the {len(rows)} gate rows has an answer in the file: its ids must be those of requests "
            "(the header x-request-id)"
        )
    return asked, [answers[row.id] for row in asked]


def _teacher(settings: Settings, student: Student) -> ModelSettings:
    teacher = settings.model(student.teacher)
    if teacher is None:
        raise NotFound(f"the teacher {student.teacher!r} is not in the settings: declare it as [[models]] again")
    return teacher


def _wait_for_url(around: Surroundings, student: Student) -> str:
    """Return where `up` serves the student, waiting for a start that is under way."""
    deadline, said = time.monotonic() + around.wait_s, False
    while True:
        with around.database.read() as connection:
            url = registry.get(connection, student.reference).url
        if url is not None:
            return url
        if time.monotonic() >= deadline:
            raise NotFound(
                f"{student.reference} is not served: start `spiritsafe up`, which serves every trained student, or "
                "look at its log in data_dir/logs"
            )
        if not said:
            around.say(f"Waiting until `spiritsafe up` serves {student.reference}.")
            said = True
        time.sleep(0.5)


def _report(rows: Sequence[Row], known: Sequence[str], given: Answers, rule: Rule, measure: str) -> dict[str, Any]:
    student, teacher = scores(given.student, known, rule.metric), scores(given.teacher, known, rule.metric)
    worse = [row.id for row, own, other in zip(rows, student, teacher, strict=True) if other > own]
    talks = [row.conversation for row in rows]
    slices = decide_slices(rule, [row.slices for row in rows], student, teacher, talks)
    return decide(student, teacher, rule, talks).as_row() | {
        "slices": [verdict.as_row() for verdict in slices],
        # What a rollout's live pairs are held to: there, too, the teacher's answer is the one that was logged.
        "agreement": sum(right(given.student, [row.answer for row in rows])) / len(rows),
        "measure": measure,
        "evaluated": to_rfc3339(now()),
        "got_worse": worse[:EXAMPLES],
    }


def _speed_report(speed: Speed) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for streams in STREAMS:
        for who, rates in (("student", speed.student), ("teacher", speed.teacher)):
            report[f"{who}_tokens_per_second_{streams}"] = round(rates[streams], 1)
        report[f"speed_up_{streams}"] = round(1 / speed.time_ratio(streams), 2)
    return report
