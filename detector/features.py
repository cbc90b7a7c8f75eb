"""Features of accounts from their states, as a frame: the same for one account and for a set merged into one.

Shares and means come at two paces (`_fast`: about the last three days; `_slow`: about a month); `…_change` says how
far the fast one has left the slow one. Volumes are logarithms. A feature is NaN where nothing tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector import sketch
from detector.sketch import DAYS, FAST, INDEX, SLOW, STREAM_SUMS, States

Floats = npt.NDArray[np.float64]
# Shares of requests that need the texts, or what is made of them, or what is known of client and network.
TEXT = ("tool_results", "system", "application", "elicits", "grades")
CONTENT = (
    "novelty", "repeated", "repeated_answer", "single", "continued", "turns", "deep", "same_topic", "items", "subjects",
    "conversations", "skeletons", "streams", "stream_", "alike", "topic", "leaked", "growth", "talk", "drift",
)  # fmt: skip
PLAIN_SHARES = (
    "repeated", "single", "continued", "deep", "tools", "tool_results", "system", "application", "elicits", "grades",
    "tiny", "long", "very_long", "hot", "cold", "temperature_set", "many", "logprobs", "seeded", "structured",
    "steered", "capped", "cut", "stream", "failed", "limited", "named_user", "embeds", "same_topic", "gap_1", "gap_10",
    "gap_60", "gap_600", "gap_more", "night",
)  # fmt: skip
CHANGING = ("novelty", "single", "application", "log_out", "log_in", "hot", "tiny", "same_topic", "repeated")
ENOUGH_PAST = 30.0  # requests before the last days from which an own past is a baseline
MORE_IS_WORSE = (
    "leaked_month", "leaked_week", "leaked_today", "novelty_slow", "novelty_fast", "logprobs_slow",
    "logprob_tokens", "stream_leaked_most", "leaked_per_request",
)  # fmt: skip


def features(states: States) -> pd.DataFrame:
    """Return one row of `NAMES` for each state."""
    return pd.DataFrame(matrix(states), columns=list(NAMES))


def matrix(states: States) -> npt.NDArray[np.float32]:
    """Return `features` as an array, shape (states, len(NAMES))."""
    made = _columns(states)
    return np.stack([made[name] for name in NAMES], axis=1).astype(np.float32)


def medians(values: npt.NDArray[np.float32], otherwise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the columns' medians, missing values left out; `otherwise` where nothing is known."""
    known = ~np.isnan(values).all(axis=0)
    found = otherwise.copy()
    found[known] = np.nanmedian(values[:, known], axis=0)
    return found


def masked(values: npt.NDArray[np.float32], without: str) -> npt.NDArray[np.float32]:
    """Return rows of `matrix` as they would be `without` a channel: "text", "content" or "network"."""
    lost = values.copy()
    lost[:, _channel(without)] = np.nan
    return lost


def _channel(name: str) -> npt.NDArray[np.bool_]:
    starts = {"text": TEXT, "content": (*TEXT, *CONTENT), "network": ("networks",)}[name]
    return np.array([each.startswith(starts) for each in NAMES])


def _columns(states: States) -> dict[str, Floats]:
    slow = states["sums"][:, SLOW].astype(np.float64)
    fast = states["sums"][:, FAST].astype(np.float64)
    found = {"requests_slow": np.log1p(slow[:, 0]), "requests_fast": np.log1p(fast[:, 0])}
    found |= _shares(slow, "slow") | _shares(fast, "fast")
    for name in CHANGING:
        found[f"{name}_change"] = found[f"{name}_fast"] - found[f"{name}_slow"]
    found |= _volumes(states) | _spreads(states, slow) | _streams(states)
    return found


def _shares(sums: Floats, pace: str) -> dict[str, Floats]:
    def mean(name: str, of: str = "requests") -> Floats:
        base = sums[:, INDEX[of]]
        known = base > 1e-6
        return np.where(known, sums[:, INDEX[name]] / np.where(known, base, 1.0), np.nan)

    found = {name: mean(name) for name in PLAIN_SHARES if pace == "slow" or name in CHANGING}
    found["novelty"] = mean("novelty", "novelty_known")
    found["log_in"], found["log_out"] = mean("log_in", "log_known"), mean("log_out", "log_known")
    if pace == "slow":
        found |= _lengths(mean) | {
            "turns": mean("turns"),
            "choices": np.log(np.maximum(mean("choices"), 1.0)),
            "cached": mean("cached", "input"),
            "reasoning": mean("reasoning", "output"),
            "repeated_answer": mean("repeated_answer", "output"),
        }
        for name in ("tool_results", "system", "application", "elicits", "grades"):
            found[name] = mean(name, "text")
    return {f"{name}_{pace}": value for name, value in found.items()}


def _lengths(mean: object) -> dict[str, Floats]:
    of = {name: mean(name, "log_known") for name in ("log_in", "log_out", "log_in2", "log_out2", "log_in_out")}  # type: ignore[operator]
    spread_in = np.maximum(of["log_in2"] - of["log_in"] ** 2, 0)
    spread_out = np.maximum(of["log_out2"] - of["log_out"] ** 2, 0)
    together = of["log_in_out"] - of["log_in"] * of["log_out"]
    return {
        "spread_in": np.sqrt(spread_in),
        "spread_out": np.sqrt(spread_out),
        "mirrored": together / np.sqrt(spread_in * spread_out + 1e-4),
        "ratio": of["log_out"] - of["log_in"],
    }


def _volumes(states: States) -> dict[str, Floats]:
    days = sketch.daily(states)
    requests, output, leaked = days[:, 0], days[:, 1], days[:, 2]
    active = (requests > 0).sum(axis=1)
    month = requests.sum(axis=1)
    age = (states["last"].astype(np.float64) - states["first"]) / 86400.0
    slow = states["sums"][:, SLOW].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "requests_month": np.log1p(month),
            "output_month": np.log1p(output.sum(axis=1)),
            "leaked_month": np.log1p(leaked.sum(axis=1)),
            "leaked_week": np.log1p(leaked[:, -7:].sum(axis=1)),
            "leaked_today": np.log1p(leaked[:, -1]),
            "requests_today": np.log1p(requests[:, -1]),
            "leaked_per_request": np.log1p(leaked.sum(axis=1) / np.maximum(month, 1)),
            "output_per_request": np.log1p(output.sum(axis=1) / np.maximum(month, 1)),
            "logprob_tokens": slow[:, INDEX["logprob_tokens"]] / np.maximum(slow[:, 0], 1e-6),
            "busiest_day": requests.max(axis=1) / np.maximum(month, 1),
            "week_share": requests[:, -7:].sum(axis=1) / np.maximum(month, 1),
            "active_days": active.astype(np.float64),
            "active_share": active / np.clip(age + 1, 1, DAYS),
            "age": np.log1p(age),
            "per_active_day": np.log1p(month / np.maximum(active, 1)),
            "unevenness": np.where(active > 1, requests.std(axis=1) / np.maximum(requests.mean(axis=1), 1e-9), np.nan),
        }


def _spreads(states: States, slow: Floats) -> dict[str, Floats]:
    total = np.maximum(states["total"], 1.0)
    known = slow[:, INDEX["novelty_known"]] > 0
    found: dict[str, Floats] = {}
    for name in sketch.COUNTERS:
        count = sketch.counted(states, name)
        found[f"{name}_share"] = np.where(count > 0, np.log(np.maximum(count, 1.0) / total), np.nan)
        found[f"{name}_count"] = np.log1p(count)
    items = np.maximum(sketch.counted(states, "items"), 1.0)
    found["growth"] = np.where(known, np.log(items) / np.log(np.maximum(total, 2.0)), np.nan)
    found["talk_length"] = found["items_count"] - found["conversations_count"]
    found["subject_growth"] = found["subjects_count"] / np.log1p(np.minimum(total, 4096))
    embedded = states["embedded"].astype(np.float64)
    squared = (sketch.centre_sums(states) ** 2).sum(axis=1)
    alike = (squared - embedded) / np.maximum(embedded * (embedded - 1), 1.0)
    found["alike"] = np.where(embedded >= 5, alike, np.nan)
    topics = states["topics"].astype(np.float64)
    part = topics / np.maximum(topics.sum(axis=2, keepdims=True), 1e-9)
    found["topic_entropy"] = np.where(embedded > 0, _entropy(part[:, SLOW]), np.nan)
    found["topic_entropy_fast"] = np.where(embedded > 0, _entropy(part[:, FAST]), np.nan)
    drift = _entropy(part.mean(axis=1)) - _entropy(part).mean(axis=1)
    found["drift"] = np.where(embedded > 0, drift, np.nan)
    return found


def _streams(states: States) -> dict[str, Floats]:
    """Return what stands out of the sub-streams: the one that leaks most, as if it were an account of its own."""
    streams = states["streams"].astype(np.float64)
    of = {name: streams[:, :, place] for place, name in enumerate(STREAM_SUMS)}
    share = of["requests"] / np.maximum(of["requests"].sum(axis=1, keepdims=True), 1e-9)
    most = of["leaked"].argmax(axis=1)[:, None]

    def picked(name: str) -> Floats:
        count = np.take_along_axis(of["requests"], most, axis=1)[:, 0]
        return np.take_along_axis(of[name], most, axis=1)[:, 0] / np.maximum(count, 1e-9)

    return {
        "streams_entropy": _entropy(share),
        "stream_share": np.take_along_axis(share, most, axis=1)[:, 0],
        "stream_leaked_most": np.log1p(of["leaked"].max(axis=1)),
        "stream_leaked": np.log1p(picked("leaked")),
        "stream_output": np.log1p(picked("output")),
        "stream_novelty": picked("novelty"),
        "stream_single": picked("single"),
    }


def _entropy(part: Floats) -> Floats:
    return np.asarray(-(part * np.log(np.maximum(part, 1e-12))).sum(axis=-1))


def _names() -> tuple[str, ...]:
    return tuple(_columns(sketch.empty(1)))


NAMES: tuple[str, ...] = _names()


def places(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the columns of features in `matrix`."""
    return np.array([NAMES.index(name) for name in names])
