"""Linked accounts as one: the states of a set are merged, scored like an account's, and its members share the score.

What links accounts is somebody else's: a `Linker` sees every request as it is read and names the sets at the end of a
day. A set counts from then on; its members' score is the greater of their own and the set's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detector import sketch
from detector.columns import Columns
from detector.scoring import Model
from detector.sketch import States

Places = npt.NDArray[np.int64]


class Linker(Protocol):
    """Finds accounts that act together."""

    def see(self, rows: Columns, places: Places) -> None:
        """Take requests in event time; `places` are those of their accounts."""
        ...

    def sets(self, states: States, day: int) -> Sequence[Places]:
        """Return the sets there are at the end of a day, each as the places of its members, no account in two."""
        ...

    def keep(self, places: Places) -> None:
        """Forget all accounts but these; the first of them has place 0 from now on, and so on."""
        ...

    def to_bytes(self) -> bytes:
        """Return what it knows as bytes."""
        ...

    def restore(self, raw: bytes) -> None:
        """Take up what `to_bytes` returned."""
        ...


class NoLinks:
    """Links nobody."""

    def see(self, rows: Columns, places: Places) -> None:
        """Take requests."""

    def sets(self, states: States, day: int) -> Sequence[Places]:
        """Return no sets."""
        return []

    def keep(self, places: Places) -> None:
        """Forget accounts."""

    def to_bytes(self) -> bytes:
        """Return nothing."""
        return b""

    def restore(self, raw: bytes) -> None:
        """Take up nothing."""


def set_scores(model: Model, states: States, sets: Sequence[Places]) -> npt.NDArray[np.float64]:
    """Return the score of each set's merged state, shape (sets,)."""
    if not sets:
        return np.zeros(0)
    return model.scores(sketch.stacked([sketch.merge(states[members]) for members in sets]))
