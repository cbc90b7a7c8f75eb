"""The gate's report for people: both models' shares, the difference against the margin, and what else was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = frozenset(
    (
        "passed",
        "outcome",
        "verdict",
        "method",
        "margin",
        "alpha",
        "minimum_pairs",
        "pairs",
        "teacher",
        "student",
        "both_right",
        "student_only_right",
        "teacher_only_right",
        "both_wrong",
        "difference",
        "difference_lower_bound",
        "lower_bound",
        "mcnemar_p",
        "missing",
        "slices",
    )
)

SPEED = re.compile(r"(student|teacher)_tokens_per_second_(\d+)$|speed_up_\d+$")


@dataclass(frozen=True)
class Share:
    """How often a model was right, with its interval; shares of one."""

    correct: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """Tokens per second of both models at a number of concurrent streams."""

    streams: int
    student: float
    teacher: float


@dataclass(frozen=True)
class GateReport:
    """A gate's report. `table` are the four counts of the paired comparison; `others` are names and values in words.

    `difference`, `bound` and `margin` are shares; figures that a report lacks are None, and the verdict still stands.
    """

    verdict: str
    method: str
    pairs: int | None
    margin: float | None
    alpha: float | None
    teacher: Share | None
    student: Share | None
    difference: float | None
    bound: float | None
    mcnemar_p: float | None
    table: dict[str, int]
    speeds: tuple[Speed, ...]
    others: tuple[tuple[str, object], ...]


def read(gate: Mapping[str, Any] | None) -> GateReport | None:
    """Turn a registry row's report into figures; None where the gate has not decided."""
    if gate is None:
        return None
    counts = ("both_right", "student_only_right", "teacher_only_right", "both_wrong")
    return GateReport(
        verdict=str(gate.get("verdict", "the report says no verdict")),
        method=str(gate.get("method", "")),
        pairs=gate.get("pairs"),
        margin=gate.get("margin"),
        alpha=gate.get("alpha"),
        teacher=_share(gate.get("teacher")),
        student=_share(gate.get("student")),
        difference=gate.get("difference"),
        bound=gate.get("difference_lower_bound"),
        mcnemar_p=gate.get("mcnemar_p"),
        table={name: gate[name] for name in counts if name in gate},
        speeds=tuple(_speeds(gate)),
        others=tuple(
            _plain({name: value for name, value in gate.items() if name not in SHOWN and not SPEED.match(name)})
            + [(f"slice {entry['slice']}", entry["verdict"]) for entry in gate.get("slices", ())]
        ),
    )


def _share(value: object) -> Share | None:
    if not isinstance(value, Mapping) or "share" not in value:
        return None
    return Share(value["correct"], value["of"], value["share"], value["low"], value["high"])


def _speeds(gate: Mapping[str, Any]) -> list[Speed]:
    streams = sorted(int(match[2]) for match in map(SPEED.match, gate) if match and match[1] == "student")
    name = "{}_tokens_per_second_{}"
    return [Speed(n, gate[name.format("student", n)], gate.get(name.format("teacher", n), 0.0)) for n in streams]


def _plain(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in values.items():
        words = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            found += _plain(value, words)
        elif isinstance(value, list):
            found.append((words, ", ".join(map(str, value))))
        elif value is not None:
            found.append((words, value))
    return found
