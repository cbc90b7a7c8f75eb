"""What an account's own past remembers, and what it tells of a new request."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from detector.memory import GENERATION_S, RING, Conversations, Likeness, OwnPast
from detector.observations import Observation, observe
from gateway.ledger import fingerprint
from tests.detector import histories
from tests.detector.words import TOPICS

DAY = 86400.0


@pytest.fixture(scope="module")
def blank() -> Observation:
    """Return an observation to be given another text."""
    row = histories.record("a", 0, histories.START, [histories.user("x")], 10)
    return observe(histories.to_table([row]))[0]


def _asks(blank: Observation, text: str, **changes: object) -> Observation:
    vector = fingerprint.embedding(text).astype(np.float32)
    unit = vector / np.linalg.norm(vector)
    changed = {"minhash": fingerprint.minhash(text), "embedding": unit, **changes}
    return dataclasses.replace(blank, **changed)  # type: ignore[arg-type]


def test_the_same_text_is_remembered_beyond_the_ring(blank: Observation) -> None:
    """A question asked again is recognised however many others came between, until it is forgotten after weeks."""
    past = OwnPast()
    first = _asks(blank, "how do I descale the green kettle", time=0.0)
    past.meet(first)
    for number in range(RING + 50):
        past.meet(_asks(blank, f"{number} is a number and {number * 7} another, so what is {number * 11}", time=10.0))
    assert past.meet(dataclasses.replace(first, time=20.0)).repeated
    other = _asks(blank, "something else entirely, asked much later", time=2 * GENERATION_S + DAY)
    past.meet(other)
    past.meet(dataclasses.replace(other, time=4 * GENERATION_S))
    assert not past.meet(dataclasses.replace(first, time=4 * GENERATION_S + DAY)).repeated


def test_an_edited_question_is_nearly_seen_and_an_unrelated_one_is_not(blank: Observation) -> None:
    """Similarity is high for an edit of a long question and low for another subject."""
    past = OwnPast()
    text = "please explain to my class how a canal lock lifts a barge of forty tonnes by two metres without a pump"
    past.meet(_asks(blank, text))
    edit = past.meet(_asks(blank, f"{text} or motor"))
    other = past.meet(_asks(blank, "which chords belong to modal jazz and which do not"))
    assert edit.nearest is not None
    assert other.nearest is not None
    assert edit.nearest > 0.7
    assert other.nearest < 0.2
    assert not edit.repeated


def test_another_seed_for_the_same_text_is_noticed(blank: Observation) -> None:
    """Repeating a prompt with the same seed, or none, is a repetition; with another seed it is a new sample."""
    past = OwnPast()
    for seed in (None, None, 1, 1):
        last = past.meet(_asks(blank, "write a haiku about the sea", seed=seed))
    assert (last.repeated, last.reseeded) == (True, False)
    assert past.meet(_asks(blank, "write a haiku about the sea", seed=2)).reseeded


def test_spread_tells_one_template_from_unrelated_texts(blank: Observation) -> None:
    """The mean similarity to recent requests is high within one template and low between unrelated questions."""
    template, unrelated = OwnPast(), OwnPast()
    for number in range(20):
        texts = f"Sort this ticket of customer {number} into one of our five departments", TOPICS[number * 5]
        same, different = template.meet(_asks(blank, texts[0])), unrelated.meet(_asks(blank, texts[1]))
    assert same.average is not None
    assert different.average is not None
    assert same.average > 0.6 > 0.25 > different.average


def test_without_fingerprints_nothing_is_claimed(blank: Observation) -> None:
    """No fingerprint, no statement; an embedding alone still shows repetition."""
    assert OwnPast().meet(dataclasses.replace(blank, minhash=None, embedding=None)) == Likeness(None, None)
    past = OwnPast()
    asked = dataclasses.replace(_asks(blank, "how long do lentils take"), minhash=None)
    past.meet(asked)
    assert past.meet(asked).repeated


def test_conversations_held_here_are_told_from_claimed_ones() -> None:
    """A second turn counts in full where the first passed by, half where it is only claimed, and a first one not."""
    known = Conversations()
    assert known.continues("talk", 1.0, False) == 0.0
    assert known.continues("talk", 2.0, False) == 1.0
    assert known.continues("copied examples", 3.0, False) == 0.5
    assert known.continues("talk", float("nan"), False) == 1.0
    assert known.continues(None, 1.0, False) == 0.0
