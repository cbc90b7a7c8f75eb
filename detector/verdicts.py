"""What a model concludes about each account: evidence over its looks, scores, and when they first called for an alert.

The model in charge and the one in its shadow conclude by these very functions, each in an array of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detector import sequential
from detector.scoring import Model
from detector.sketch import States

VERDICT = np.dtype(
    [
        ("looks", "<u4"),
        ("evidence", "<f4"),  # smoothed log-odds
        ("own", "<f8"),  # its own score at the newest checkpoint
        ("score", "<f8"),  # the greater of that and its set's
        ("peak", "<f8"),
        ("day_peak", "<f8"),
        ("set_score", "<f8"),  # of the linked set, 0 without one
        ("set", "<u8"),  # its id, 0: none
        ("live", "<u4"),  # requests of live origin
        ("cost", "<f8"),  # nano-dollars
        ("leaked", "<f8"),  # tokens of novelty since the first request
        ("alert_time", "<f8"),  # seconds, 0: none
        ("alert_requests", "<u4"),
        ("alert_live", "<u4"),
        ("alert_tokens", "<f8"),
    ]
)
# What of it is a model's own opinion; the rest is counted.
OPINION = np.dtype(
    [
        (name, VERDICT[name])
        for name in (
            "looks", "evidence", "own", "score", "peak", "day_peak", "set_score", "alert_time", "alert_requests",
            "alert_live", "alert_tokens",
        )
    ]
)  # fmt: skip
Places = npt.NDArray[np.int64]
Verdicts = npt.NDArray[np.void]  # of dtype VERDICT or OPINION, shape (accounts,)


def look(
    model: Model,
    verdicts: Verdicts,
    places: Places,
    values: npt.NDArray[np.float32],
    covered: npt.NDArray[np.bool_],
) -> None:
    """Look at accounts, whose features are `values` (`features.matrix`): their evidence moves, and their own score."""
    first = verdicts["looks"][places] == 0
    evidence = sequential.moved(verdicts["evidence"][places], first, model.log_odds(values))
    verdicts["evidence"][places] = evidence
    verdicts["looks"][places] += 1
    verdicts["own"][places] = model.scores_at(evidence, values, covered)


def record(
    model: Model, verdicts: Verdicts, places: Places, states: States, live: npt.NDArray[np.unsignedinteger[Any]]
) -> None:
    """Bring scores up to date, and note what had passed where one calls for an alert for the first time.

    `states` and `live` (requests of live origin) are of all accounts.
    """
    scores = np.maximum(verdicts["own"][places], verdicts["set_score"][places])
    verdicts["score"][places] = scores
    for name in ("peak", "day_peak"):
        verdicts[name][places] = np.maximum(verdicts[name][places], scores)
    crossed = places[(scores >= model.alert) & (verdicts["alert_time"][places] == 0)]
    verdicts["alert_time"][crossed] = states["last"][crossed]
    verdicts["alert_requests"][crossed] = states["total"][crossed]
    verdicts["alert_live"][crossed] = live[crossed]
    verdicts["alert_tokens"][crossed] = states["output"][crossed]


def opinions(verdicts: Verdicts) -> Verdicts:
    """Return a copy of what of verdicts is a model's own, of dtype `OPINION`."""
    found = np.zeros(len(verdicts), OPINION)
    for name in OPINION.names or ():
        found[name] = verdicts[name]
    return found


def hold(verdicts: Verdicts, opinion: Verdicts) -> None:
    """Put a model's opinion of every account in the place of another's."""
    for name in OPINION.names or ():
        verdicts[name] = opinion[name]
