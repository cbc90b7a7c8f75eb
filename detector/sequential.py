"""Evidence over time: one CUSUM per way of harvesting, the same at any speed, so that a slow drip adds up too.

S ← max(0, S + h − allowance) per request (Page 1954). The allowance is what ordinary use may show for ever; where an
account's own past showed more, it is raised a little, so that a change counts more than a habit. S is in requests'
worth of evidence.
"""

from __future__ import annotations

import numpy as np

from detector.evidence import FAMILIES
from detector.windows import INDEX, Sums

ALLOWANCE = 0.45
HIGHEST_ALLOWANCE = 0.55
ABOVE_OWN_PAST = 0.1
ENOUGH_PAST = 30  # answered requests before today from which an own past is a baseline
THRESHOLD = 15.0  # S at which the rules alone put the score at one half
CEILING = 10 * THRESHOLD  # so that an account that stops can come down again
HALF_LIFE_S = 28 * 86400.0
_FIRST = INDEX[FAMILIES[0]]


class Cusum:
    """The sums of one account."""

    def __init__(self) -> None:
        self.values = [0.0] * len(FAMILIES)
        self._allowances = [ALLOWANCE] * len(FAMILIES)
        self._time = 0.0

    def set_past(self, past: Sums) -> None:
        """Take the account's own past (sums before today) as the habit that a change is measured against."""
        answered = past[INDEX["answered"]]
        if answered >= ENOUGH_PAST:
            habits = past[_FIRST : _FIRST + len(FAMILIES)] / answered + ABOVE_OWN_PAST
            self._allowances = np.clip(habits, ALLOWANCE, HIGHEST_ALLOWANCE).tolist()

    def add(self, time: float, families: tuple[float, ...]) -> float:
        """Add a request's evidence and return the greatest sum, as a multiple of the threshold."""
        if time - self._time > 3600.0:
            fade = 0.5 ** ((time - self._time) / HALF_LIFE_S) if self._time else 1.0
            self.values = [value * fade for value in self.values]
            self._time = time
        pairs = zip(self.values, families, self._allowances, strict=True)
        self.values = [min(CEILING, max(0.0, value + shown - allowed)) for value, shown, allowed in pairs]
        return self.level

    @property
    def level(self) -> float:
        """The greatest sum, as a multiple of the threshold."""
        return max(self.values) / THRESHOLD

    @property
    def family(self) -> str:
        """The way of harvesting that the greatest sum speaks for."""
        return FAMILIES[self.values.index(max(self.values))]
