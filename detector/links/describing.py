"""What a linked set looks like: its members' states merged into one, and how they share the work between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector import features, sketch
from detector.links.channels import CHANNELS, Comparison, Floats
from detector.links.likelihood import CAMPAIGN, PairLikelihood
from detector.links.profile import Places
from detector.sketch import States

PAIRS = 64  # drawn of a set, for what its members have in common
# Of the merged state: how it is asked and what comes back. Volumes are not among them: a company is as busy.
MERGED = (
    "novelty_slow", "repeated_slow", "single_slow", "continued_slow", "deep_slow", "turns_slow", "application_slow",
    "tool_results_slow", "elicits_slow", "grades_slow", "named_user_slow", "log_in_slow", "log_out_slow", "ratio_slow",
    "mirrored_slow", "spread_out_slow", "tiny_slow", "logprobs_slow", "choices_slow", "leaked_per_request", "growth",
    "subject_growth", "talk_length", "alike", "topic_entropy", "stream_novelty", "stream_single", "stream_leaked",
)  # fmt: skip
# Of each member, the least, the median and the greatest: whether any has a life of its own.
MEMBERS = ("novelty_slow", "single_slow", "continued_slow", "application_slow", "leaked_per_request")
SHARED = ("union", "balance", "size", "starts", *(f"links_{channel}" for channel in CHANNELS))
COLUMNS = (*MERGED, *(f"{name}_{part}" for name in MEMBERS for part in ("least", "median", "most")), *SHARED)
MORE_IS_WORSE = frozenset(
    ("novelty_slow", "leaked_per_request", "union", "novelty_slow_median", "leaked_per_request_median")
)


def describe(
    sets: Sequence[Places], states: States, comparison: Comparison, likelihood: PairLikelihood, seed: int = 0
) -> pd.DataFrame:
    """Return one row of `COLUMNS` for each set; its members are rows of `states`, which `comparison` compares."""
    if not sets:
        return pd.DataFrame(np.zeros((0, len(COLUMNS))), columns=list(COLUMNS))
    merged = features.matrix(sketch.stacked([sketch.merge(states[members]) for members in sets]))
    single = features.matrix(states)[:, features.places(MEMBERS)]
    found = np.concatenate(
        [
            merged[:, features.places(MERGED)],
            np.stack([_spread(single[members]) for members in sets]),
            np.stack([_shared(members, states) for members in sets]),
            _links(sets, comparison, likelihood, np.random.default_rng(seed)),
        ],
        axis=1,
    )
    return pd.DataFrame(found.astype(np.float32), columns=list(COLUMNS))


def _spread(values: npt.NDArray[np.float32]) -> Floats:
    told = ~np.isnan(values)
    parts = np.full((values.shape[1], 3), np.nan)
    for place in range(values.shape[1]):
        if told[:, place].any():
            parts[place] = np.quantile(values[told[:, place], place], (0.1, 0.5, 0.9))
    return parts.ravel()


def _shared(members: Places, states: States) -> Floats:
    mine = states[members]
    items = sketch.counted(mine, "items").sum()
    whole = float(sketch.counted(sketch.merge(mine), "items")[0])
    load = np.log(np.maximum(mine["total"], 1.0))
    starts = np.sort(mine["first"] / sketch.DAY_S)
    middle = np.quantile(starts, (0.1, 0.9))
    return np.array(
        [
            whole / items if items > 0 else np.nan,  # 1: no prompt was asked by two of them
            load.std(),
            np.log(len(members)),
            np.log1p(middle[1] - middle[0]),
        ]
    )


def _links(
    sets: Sequence[Places], comparison: Comparison, likelihood: PairLikelihood, rng: np.random.Generator
) -> Floats:
    first = np.concatenate([rng.choice(members, PAIRS) for members in sets])
    second = np.concatenate([rng.choice(members, PAIRS) for members in sets])
    logits = likelihood.logits(comparison.statistics(first, second))[:, :, CAMPAIGN]
    logits[first == second] = np.nan
    return np.asarray(np.nanmean(logits.reshape(len(sets), PAIRS, len(CHANNELS)), axis=1))
