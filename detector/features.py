"""Features of an account over a window, as one row of a frame: shares and means, no volumes, as size is no evidence.

`requests`, `tokens` (in and out) and `account` ride along for the baselines; detectors read `FEATURES` alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from detector.account import Account
from detector.evidence import FAMILIES
from detector.windows import DAY, INDEX, MONTH, WEEK, Sums

ENOUGH = 20  # answered requests that a window needs before a longer one is taken
FEATURES = (
    "unseen_share",
    "spread",
    "single_share",
    "application_share",
    "leaked_per_request",
    "output_per_request",
    "output_input_ratio",
    "tiny_share",
    "logprobs_share",
    "many_choices_share",
    "repeated_share",
    "elicits_share",
    "grades_share",
    "users_returning_share",
    *FAMILIES,
)
# More of these is more like harvesting; of the others, neither more nor less is.
HARVEST_DIRECTION = ("unseen_share", "spread", "single_share", "leaked_per_request", *FAMILIES)
COLUMNS = ("account", "cell", "requests", "tokens", *FEATURES)


def features_of(sums: Sums) -> dict[str, float]:
    """Turn a window's sums into `FEATURES`; NaN where nothing was answered or nothing tells."""

    def share(name: str, of: str = "answered") -> float:
        return float(sums[INDEX[name]] / sums[INDEX[of]]) if sums[INDEX[of]] > 0 else np.nan

    row = {
        "unseen_share": share("unseen", "unseen_known"),
        "spread": share("spread", "spread_known"),
        "single_share": share("single"),
        "application_share": share("application", "application_known"),
        "leaked_per_request": share("leaked_tokens"),
        "output_per_request": share("output_tokens"),
        "output_input_ratio": float(np.log1p(share("output_tokens", "input_tokens"))),
    }
    for name in ("tiny", "logprobs", "many_choices", "repeated", "elicits", "grades", "users_returning"):
        row[f"{name}_share"] = share(name)
    return row | {family: share(family) for family in FAMILIES}


def recent(account: Account, time: float) -> tuple[Sums, str]:
    """Return the shortest of the calendar day, 24 hours, 7 and 28 days that holds enough answers, and its name."""
    today = account.windows.today(time)
    if today[INDEX["answered"]] >= ENOUGH:
        return today, "one day"
    for hours, words in ((DAY, "24 hours"), (WEEK, "seven days")):
        sums = account.windows.total(time, hours)
        if sums[INDEX["answered"]] >= ENOUGH:
            return sums, words
    return account.windows.total(time, MONTH), "28 days"


def row_of(account: Account, time: float) -> dict[str, Any]:
    """Return an account's row of `COLUMNS` at a time in seconds."""
    sums, _ = recent(account, time)
    return {
        "account": account.name,
        "cell": account.cell,
        "requests": float(sums[INDEX["requests"]]),
        "tokens": float(sums[INDEX["input_tokens"]] + sums[INDEX["output_tokens"]]),
        **features_of(sums),
    }


def frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame of `COLUMNS` from rows."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))
