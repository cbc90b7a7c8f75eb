"""The built-in reference of ordinary accounts."""

from __future__ import annotations

import pandas as pd

from detector import reference
from detector.evidence import FAMILIES
from detector.sequential import ALLOWANCE


def test_it_is_the_same_everywhere() -> None:
    """The same seed makes the same frame, another seed another."""
    again = reference.ordinary.__wrapped__(reference.SEED)
    pd.testing.assert_frame_equal(reference.ordinary(), again)
    assert not reference.ordinary.__wrapped__(1).equals(again)


def test_ordinary_accounts_stay_below_the_allowance() -> None:
    """No profile of ordinary use shows, on average, as much as the sequential evidence allows for ever."""
    means = reference.ordinary()[list(FAMILIES)]
    assert (means.max() < ALLOWANCE).all()
