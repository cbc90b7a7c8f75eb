"""Texts that say nearly the same: found, grouped, and kept apart from evaluation rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from distiller.evaluation_sets import apart, check_apart, grouped
from distiller.near_duplicates import SIMILAR, groups, near_any
from distiller.rows import Row
from distiller.splitting import Sizes, split
from gateway.ledger.errors import InvalidValue
from gateway.ledger.fingerprint import minhash

LONG = "the printer on the second floor prints every page twice since the update and the queue is full of old jobs "
WORDS = [f"word{number}" for number in range(60)]


def row(number: int, text: str, conversation: str | None = None) -> Row:
    body = {"messages": [{"role": "user", "content": text}]}
    time = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Row(f"r{number}", time, "shop", conversation or f"c{number}", body, "x")


def texts(count: int, seed: int) -> list[str]:
    """Random texts, a third of them earlier ones with a word changed."""
    draw = random.Random(seed)
    made: list[list[str]] = []
    for _ in range(count):
        words = list(draw.choice(made)) if made and draw.random() < 0.33 else draw.choices(WORDS, k=30)
        words[draw.randrange(30)] = draw.choice(WORDS)
        made.append(words)
    return [" ".join(words) for words in made]


@pytest.mark.parametrize("seed", range(3))
def test_no_near_pair_is_overlooked(seed: int) -> None:
    """Comparing every pair finds the groups that the bands find."""
    made = texts(150, seed)
    signatures = np.stack([minhash(text) for text in made])
    found = groups(made, [str(place) for place in range(150)])
    near = [(i, j) for i in range(150) for j in range(i) if (signatures[i] == signatures[j]).mean() >= SIMILAR]
    assert near
    assert all(found[i] == found[j] for i, j in near)
    linked = {place for pair in near for place in pair}
    assert all(found.count(found[place]) == 1 for place in range(150) if place not in linked)


def test_near_texts_and_conversations_hang_together() -> None:
    """One row that is near a second one's text and in a third one's conversation holds all three together."""
    rows = [row(0, LONG + "today"), row(1, LONG + "again", "talk"), row(2, "something else", "talk"), row(3, "other")]
    found = grouped(rows)
    assert found["r0"] == found["r1"] == found["r2"] != found["r3"]


def test_a_split_parts_no_near_texts() -> None:
    """Nearly the same text asked a day later is in no later split than the first: it is left out."""
    rows = [row(number, f"{number} {' '.join(random.Random(number).choices(WORDS, k=12))}") for number in range(60)]
    rows += [row(100, LONG + "today")]
    rows.insert(0, row(-5, LONG + "again"))
    parts = split(rows, Sizes(gate=15, calibration=20, least_train=20), grouped(rows))
    assert not any("printer" in row.text for row in (*parts.gate, *parts.calibration))
    assert parts.straddling == 1


def test_rows_near_evaluation_rows_are_left_out_and_block_a_freeze() -> None:
    """They are counted as contaminated, the evaluation's own are simply not there, and what slips through blocks."""
    evaluation = [row(50, LONG + "today"), row(51, "my invoice is wrong")]
    rows = [row(1, LONG + "again"), row(2, "an unrelated question about colours"), row(51, "my invoice is wrong")]
    kept, contaminated = apart(rows, evaluation)
    assert ([kept_row.id for kept_row in kept], contaminated) == (["r2"], 1)
    check_apart(kept, evaluation)
    with pytest.raises(InvalidValue, match="1 training rows are nearly evaluation rows, r1"):
        check_apart(rows[:2], evaluation)


def test_nothing_is_near_nothing() -> None:
    """Empty lists have no groups."""
    assert groups([], []) == []
    assert near_any([], ["a"]) == []
    assert near_any(["a"], []) == [False]
