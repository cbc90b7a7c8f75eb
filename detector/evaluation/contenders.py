"""What can be measured: anything that keeps something of an account, learns from others, and scores account-days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from detector.evaluation.reading import Floats, Reading

Learns = Literal["nothing", "benign", "everyone", "labels"]


class Contender(Protocol):
    """A detector or a baseline, over what readers (`reading.Reader`) kept of accounts.

    `learns`: from nothing; from benign accounts (it is told which); from everyone, unlabelled; from labels too.
    """

    @property
    def name(self) -> str:
        """The name in tables and plots."""
        ...

    @property
    def learns(self) -> Learns:
        """What `fit` reads."""
        ...

    def fit(self, readings: Sequence[Reading], days: npt.NDArray[np.bool_]) -> None:
        """Learn from accounts, on the days of the month that the mask (shape (28,)) has."""
        ...

    def scores(self, readings: Sequence[Reading]) -> Floats:
        """Return a score for each account and day, shape (accounts, 28); higher is more abnormal.

        Only days on which an account is judged (`Reading.judged`) are looked at.
        """
        ...

    def alerts(self, readings: Sequence[Reading]) -> npt.NDArray[np.int64] | None:
        """Return how many requests had passed at each account's first alert (-1: none raised).

        None where a contender raises no alerts of its own; the frozen threshold's are counted then.
        """
        ...


def day_ends(day_of: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (day, index after its last request) of each active day; `day_of` has each request's day, in order."""
    if not len(day_of):
        return []
    ends = np.append(np.flatnonzero(np.diff(day_of)) + 1, len(day_of))
    return [(int(day_of[end - 1]), int(end)) for end in ends]
