"""Protected slices: parts of a task that are proven by themselves, or stay with the teacher.

A slice is named as a pair of the request's `metadata`, `language=de`: what a request says of itself is known when it is
routed. Each has a margin of five points and asks for at least 500 pairs; the slices share what the test may spend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from distiller.gate import Rule, decide
from gateway.ledger.errors import InvalidValue

MARGIN = 0.05
MINIMUM_PAIRS = 500


@dataclass(frozen=True)
class SliceVerdict:
    """What a slice's own test said; one without a pass stays with the teacher, whatever the reason."""

    slice: str
    stays_with_teacher: bool
    pairs: int
    difference: float
    difference_lower_bound: float
    verdict: str

    def as_row(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Return the slices' names in order, without repetitions; `InvalidValue` for one that is no KEY=VALUE."""
    for name in names:
        key, sign, value = name.partition("=")
        if not (key and sign and value):
            raise InvalidValue(f"{name!r} is no slice: name a pair of the requests' metadata as KEY=VALUE")
    return tuple(sorted(set(names)))


def slices_of(metadata: object, names: Sequence[str]) -> tuple[str, ...]:
    """Return which of the named slices a request with this metadata is in."""
    if not isinstance(metadata, Mapping):
        return ()
    pairs = {f"{key}={value}" for key, value in metadata.items()}
    return tuple(name for name in names if name in pairs)


def staying(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the slices that a gate's report leaves with the teacher."""
    return tuple(entry["slice"] for entry in gate.get("slices", ()) if entry["stays_with_teacher"])


def decide_slices(
    rule: Rule,
    members: Sequence[Sequence[str]],
    student: Sequence[float],
    teacher: Sequence[float],
    conversations: Sequence[str],
) -> list[SliceVerdict]:
    """Test every protected slice of the rule; `members` says, pair by pair, in which slices the request is."""
    own = replace(rule, margin=MARGIN, minimum_pairs=MINIMUM_PAIRS, attempts=rule.attempts * max(1, len(rule.slices)))
    rows = list(zip(members, student, teacher, conversations, strict=True))
    return [_decide(name, own, [row for row in rows if name in row[0]]) for name in rule.slices]


def _decide(name: str, rule: Rule, rows: Sequence[tuple[Sequence[str], float, float, str]]) -> SliceVerdict:
    found = decide([row[1] for row in rows], [row[2] for row in rows], rule, [row[3] for row in rows])
    words = found.verdict
    if len(rows) < rule.minimum_pairs:
        words = f"{len(rows)} pairs are too few, {rule.minimum_pairs} are the least: it stays with the teacher"
    return SliceVerdict(name, not found.passed, len(rows), found.difference, found.difference_lower_bound, words)
