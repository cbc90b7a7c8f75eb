"""The benchmark of the scrubber: its labels are right, and what the rules were written for is found."""

from __future__ import annotations

from benchmarks.rig.personal_data import FORMS, LOOK_ALIKES, examples
from benchmarks.scrubbing import measure, precisions, recalls

# Known misses among what the rules were written with: a digest and a key of as many hexadecimal digits look the same.
HARD = {"SECRET, seen": 0.9, "PASSWORD, seen": 0.8}


def test_formats_that_were_seen_are_found() -> None:
    """Of every kind nearly all values in a known format are replaced whole, and hardly anything else is."""
    result = measure(examples(20, seed=4))
    for name, row in recalls(result).items():
        if name.endswith(", seen"):
            assert row["recall"] >= HARD.get(name, 0.99), name
    for kind, row in precisions(result).items():
        assert row["precision"] >= 0.97, kind


def test_what_has_no_shape_stays() -> None:
    """Names and streets are not found: the table says so, and nobody may take it for complete."""
    found = recalls(measure(examples(5, seed=4)))
    assert (found["NAME, unseen"]["found"], found["ADDRESS, unseen"]["found"]) == (0, 0)


def test_examples_are_labelled_and_repeatable() -> None:
    """The same seed makes the same texts, and every format has its number of them."""
    made = list(examples(3, seed=1))
    assert made == list(examples(3, seed=1))
    forms = sum(len(seen) + len(unseen) for seen, unseen in FORMS.values())
    assert len(made) == 3 * (forms + len(LOOK_ALIKES))
    assert all(example.text == example.before + example.value + example.after for example in made)
