"""Naive harvesting that needs no learning: whoever does this at this rate is looked at, whatever the trees say.

Each rule is a few bounds on features, wide of what ordinary accounts of the fitting months do; the score of an account
that breaks one is at least an alert's. A declared use lifts them, as it lowers the odds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from detector import features

# Feature → (least, most); None: no bound. Counts are logarithms, as among the features.
Bounds = Mapping[str, tuple[float | None, float | None]]
RULES: Mapping[str, Bounds] = {
    # Token probabilities on most calls, of prompts that do not come back.
    "logprobs": {"logprobs_slow": (0.6, None), "logprob_tokens": (4.0, None), "novelty_slow": (0.6, None)},
    # Many answers a call, at a temperature at which they differ.
    "choices": {"choices_slow": (np.log(6.0), None), "hot_slow": (0.8, None), "leaked_per_request": (4.0, None)},
    # One prompt again and again with another seed each time, and then the next prompt.
    "seeds": {
        "seeded_slow": (0.6, None), "seeds_count": (np.log(20.0), None), "repeated_slow": (0.5, None),
        "hot_slow": (0.8, None), "items_count": (np.log(2.5), None),
    },
    # Hundreds of unrelated questions in a day, each in one turn, none twice, behind no application.
    "bulk": {
        "requests_today": (np.log(110.0), None), "novelty_fast": (0.7, None), "single_fast": (0.83, None),
        "application_fast": (None, 0.2), "log_out_fast": (3.0, None), "topic_entropy_fast": (1.8, None),
        "growth": (0.85, None), "named_user_slow": (None, 0.3), "alike": (None, 0.3), "ratio_slow": (-0.5, None),
    },
    # The same at any pace, with less room.
    "drip": {
        "requests_month": (np.log(100.0), None), "novelty_slow": (0.78, None), "single_slow": (0.95, None),
        "application_slow": (None, 0.15), "log_out_slow": (3.4, None), "topic_entropy": (1.8, None),
        "growth": (0.94, None), "named_user_slow": (None, 0.1), "alike": (None, 0.3), "ratio_slow": (0.3, None),
    },
    # The working behind answers to questions that do not come back.
    "working": {
        "requests_month": (np.log(100.0), None), "elicits_slow": (0.8, None), "novelty_slow": (0.75, None),
        "single_slow": (0.95, None), "growth": (0.94, None), "ratio_slow": (0.5, None), "named_user_slow": (None, 0.1),
    },
    # Hundreds of questions about one subject, as a benchmark or a textbook is walked through.
    "sweep": {
        "requests_month": (np.log(400.0), None), "novelty_slow": (0.75, None), "single_slow": (0.95, None),
        "application_slow": (None, 0.2), "growth": (0.93, None), "ratio_slow": (0.0, None),
        "log_out_slow": (3.4, None), "named_user_slow": (None, 0.1),
    },
}  # fmt: skip


def broken(values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return which rows of `features.matrix` break which of `RULES`, shape (rows, rules)."""
    found = np.zeros((len(values), len(RULES)), bool)
    for column, bounds in enumerate(RULES.values()):
        kept = np.ones(len(values), bool)
        for name, (least, most) in bounds.items():
            shown = values[:, _PLACE[name]]
            kept &= np.ones(len(values), bool) if least is None else shown >= least
            kept &= np.ones(len(values), bool) if most is None else shown <= most
        found[:, column] = kept
    return found


_PLACE = {name: place for place, name in enumerate(features.NAMES)}
