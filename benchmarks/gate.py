"""How often does the gate err? `make bench-gate`: it decides on simulated candidates whose truth is known.

Candidates exactly at the margin, which should not pass, at several shares of differing answers and numbers of pairs;
with Tango's bound, with the bootstrap of conversations whose requests rise and fall together, and on graded scores; and
five candidates one after the other on the same rows, where any pass is an error. Then how often a student that is
exactly equal passes; and what ten looks at a rollout's live pairs say of one that agrees as often as wanted, as little
as is allowed, and less. Two minutes of CPU; prints tables, the last line is one JSON object, and the status is 1 where
more than 67 of 1,000 at the margin pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from distiller.bootstrap import clustered_lower_bound
from distiller.gate import POWER, Rule
from distiller.live_pairs import decide
from distiller.proportions import pairs_needed, tango_lower_bound

CANDIDATES = 1000
MOST = 67  # of 1,000: 5 %, and two and a half standard errors of the count
ALPHA = 0.05
ATTEMPTS = 5
TALK = 3

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Values]


@dataclass(frozen=True)
class Row:
    """A line of the table: of how many candidates how many passed."""

    what: str
    pairs: int
    passed: int
    of: int


def main(arguments: list[str] | None = None) -> int:
    """Run the simulation; 1 where candidates at the margin pass too often."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--seed", type=int, default=20261124)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    at_margin = list(_shown("at the margin", _errors(rng, options.candidates)))
    equal = list(_shown("exactly equal", _powers(rng, options.candidates)))
    rollouts = list(_looked_at(rng, options.candidates))
    for row in rollouts:
        print(f"| {row.what} | {row.passed} of {row.of} |")
    print(
        json.dumps(
            {
                "rollouts": [vars(row) for row in rollouts],
                "at_margin": [vars(row) for row in at_margin],
                "equal": [vars(row) for row in equal],
            }
        )
    )
    return int(any(row.passed > MOST * row.of / 1000 for row in at_margin))


def _shown(title: str, rows: Iterator[Row]) -> Iterator[Row]:
    print(f"\n{title}\n")
    for row in rows:
        print(f"| {row.what} | {row.pairs:,} pairs | {row.passed} of {row.of} pass |", flush=True)
        yield row


def _errors(rng: np.random.Generator, candidates: int) -> Iterator[Row]:
    """Candidates that are worse by the whole margin."""
    for margin, counts in ((0.05, (400, 450)), (0.02, (1237, 3092))):
        for pairs in counts:
            for discordance in (0.06, 0.08, 0.2, 0.4):
                passed = sum(_tango_passes(rng, pairs, margin, discordance, -margin) for _ in range(candidates))
                yield Row(f"Tango, {margin:.0%} margin, {discordance:.0%} differ", pairs, passed, candidates)
    for pairs in (450, 1236):
        for discordance in (0.08, 0.2):
            draw = partial(_together, pairs=pairs, margin=0.05, discordance=discordance)
            passed = sum(_bootstrap_passes(rng, draw, 0.05) for _ in range(candidates))
            yield Row(f"conversations of {TALK}, 5% margin, {discordance:.0%} differ", pairs, passed, candidates)
        draw = partial(_graded, pairs=pairs, margin=0.05)
        passed = sum(_bootstrap_passes(rng, draw, 0.05) for _ in range(candidates))
        yield Row(f"graded, conversations of {TALK}, 5% margin", pairs, passed, candidates)
    passed = sum(_any_of_several(rng) for _ in range(candidates))
    yield Row(f"{ATTEMPTS} candidates in turn on the same rows, any of them", 1237, passed, candidates)


def _powers(rng: np.random.Generator, candidates: int) -> Iterator[Row]:
    """Students that are exactly as good, over as many pairs as are planned for 80 %."""
    for margin in (0.05, 0.02):
        for discordance in (0.08, 0.2):
            pairs = pairs_needed(margin, ALPHA, POWER, discordance)
            passed = sum(_tango_passes(rng, pairs, margin, discordance, 0.0) for _ in range(candidates))
            yield Row(f"Tango, {margin:.0%} margin, {discordance:.0%} differ", pairs, passed, candidates)


def _looked_at(rng: np.random.Generator, candidates: int) -> Iterator[Row]:
    """Rollouts that a hundred more live pairs are looked at ten times: how many pass, and how many end, at any look."""
    for truth in (0.95, 0.9, 0.85, 0.75):
        ends: dict[str, int] = {"passed": 0, "failed": 0, "undecided": 0}
        for _ in range(candidates):
            agreed = (rng.random(1000) < truth).tolist()
            outcomes = (decide(agreed[: 100 * look], 0.95, 0.05, look)[0] for look in range(1, 11))
            ends[next((outcome for outcome in outcomes if outcome != "undecided"), "undecided")] += 1
        for outcome in ("passed", "failed"):
            yield Row(
                f"rollout, agrees in {truth:.0%} where 90% are the least, {outcome}", 1000, ends[outcome], candidates
            )


@cache
def _bound(b: int, c: int, pairs: int, alpha: float) -> float:
    return tango_lower_bound(b, c, pairs, alpha)


def _tango_passes(
    rng: np.random.Generator, pairs: int, margin: float, discordance: float, truth: float, alpha: float = ALPHA
) -> bool:
    shares = [(discordance + truth) / 2, (discordance - truth) / 2, 1 - discordance]
    b, c, _ = rng.multinomial(pairs, shares)
    return _bound(int(b), int(c), pairs, alpha) > -margin


def _bootstrap_passes(rng: np.random.Generator, draw: Draw, margin: float) -> bool:
    values = draw(rng)
    talks = [str(place // TALK) for place in range(len(values))]
    return clustered_lower_bound(values.tolist(), talks, ALPHA) > -margin


def _together(rng: np.random.Generator, *, pairs: int, margin: float, discordance: float) -> Values:
    """Right or wrong, where half of the requests fare as their conversation does."""
    talks = pairs // TALK
    luck = np.where(rng.random(talks * TALK) < 0.5, np.repeat(rng.random(talks), TALK), rng.random(talks * TALK))
    better, worse = (discordance - margin) / 2, (discordance + margin) / 2
    return np.where(luck < better, 1.0, np.where(luck < better + worse, -1.0, 0.0))


def _graded(rng: np.random.Generator, *, pairs: int, margin: float) -> Values:
    """F1 of fields: a tenth of the conversations differ in whole steps, and a fifth of the rest lose a little."""
    talks = pairs // TALK
    shared = np.repeat(rng.random(talks), TALK) < 0.1
    steps = rng.choice([-1.0, -0.4, -0.2, 0.2, 0.4, 1.0], talks * TALK)
    small = np.where(rng.random(talks * TALK) < 0.2, -margin / (0.9 * 0.2), 0.0)
    return np.where(shared, steps, small)


def _any_of_several(rng: np.random.Generator) -> bool:
    """Independent candidates: the worst case, since those that err on the same rows pass together."""
    alpha = Rule(margin=0.02, attempts=ATTEMPTS).alpha_spent
    return any(_tango_passes(rng, 1237, 0.02, 0.08, -0.02, alpha) for _ in range(ATTEMPTS))


if __name__ == "__main__":
    sys.exit(main())
