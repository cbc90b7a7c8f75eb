"""Protected slices: proven by themselves, or left with the teacher."""

from __future__ import annotations

import pytest

from distiller.gate import Rule
from distiller.slices import checked, decide_slices, slices_of
from gateway.ledger.errors import InvalidValue

GERMAN, LONG = "language=de", "length=long"


def verdicts(rows: int, wrong: int) -> dict[str, bool]:
    """Decide on a German slice, of which the student has `wrong` rows wrong and the teacher none; a third is long."""
    student = [0.0] * wrong + [1.0] * (rows - wrong)
    members = [(GERMAN, LONG) if row % 3 == 0 else (GERMAN,) for row in range(rows)]
    talks = [str(row) for row in range(rows)]
    found = decide_slices(Rule(slices=(GERMAN, LONG)), members, student, [1.0] * rows, talks)
    return {verdict.slice: verdict.stays_with_teacher for verdict in found}


def test_a_slice_is_released_when_it_is_proven() -> None:
    """600 pairs with 1 % worse pass by themselves; the slice within it has 200 pairs and stays."""
    assert verdicts(600, 6) == {GERMAN: False, LONG: True}


def test_fewer_than_five_hundred_pairs_stay_with_the_teacher() -> None:
    """A perfect student over 499 pairs is not enough, over 500 it is."""
    assert verdicts(499, 0)[GERMAN]
    assert not verdicts(500, 0)[GERMAN]


def test_a_worse_slice_stays_with_the_teacher() -> None:
    """Four points worse over 600 pairs is within five, but not surely."""
    assert verdicts(600, 24)[GERMAN]


def test_slices_are_pairs_of_metadata() -> None:
    """Only the named pairs are looked at, and a name that is no pair is an error with its form."""
    assert slices_of({"language": "de", "customer": "x"}, (GERMAN, LONG)) == (GERMAN,)
    assert slices_of(None, (GERMAN,)) == ()
    assert checked((LONG, GERMAN, LONG)) == (GERMAN, LONG)
    with pytest.raises(InvalidValue, match="KEY=VALUE"):
        checked(("german",))
