"""Reasons are short, plain and exact."""

from __future__ import annotations

import random

import pytest

from detector import columns
from detector.replay import replay
from tests.detector import histories

EXPECTED = {
    "bulk": "different things in",
    "best_of_n": "again, with other seeds",
    "many_choices": "several answers at once",
    "logprobs": "token probabilities on",
    "chain_of_thought": "the working behind the answer",
}


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_each_way_of_harvesting_has_its_words(kind: str) -> None:
    """The first reason names the way, in numbers, with the peers' figure; nobody is called an attacker."""
    rng = random.Random(2)
    rows = histories.HARVESTING[kind](rng, kind, histories.history(rng, 60, 8))
    (found,) = replay(columns.read(histories.to_table(rows)), 30, {})
    first = found["reasons"][0]
    assert EXPECTED[kind] in first["text"]
    assert "peers: " in first["text"]
    assert first["value"] is not None
    assert first["peer_median"] is not None
    words = " ".join(reason["text"] for reason in found["reasons"])
    assert "attack" not in words
    assert "anomal" not in words
    assert "no other account" in words


def test_what_speaks_against_is_listed_too() -> None:
    """An account that asks some questions again, and collects all the same, has both said of it."""
    rng = random.Random(4)
    rows = histories.bulk(rng, "a", histories.history(rng, 60, 10))
    for number in range(20, len(rows), 20):
        rows[number]["messages"] = rows[number - 10]["messages"]
    (found,) = replay(columns.read(histories.to_table(rows)), 30, {})
    assert found["severity"] != "none"
    assert any(reason["text"].startswith("against it: ") for reason in found["reasons"])
