"""When an account's requests come: its pace, its better and worse weeks, and their layout over the month."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from detector.evaluation.profiles import Paces
from detector.evaluation.traces import DAYS, Client, strictly_increasing

Pace = Literal["whole", "window", "nightly", "drip"]
DAY_MS = 86_400_000
WINDOW = (float(np.log(0.7)), float(np.log(12.0)))  # days
WEEKLY_SPREAD, DAILY_SPREAD = 0.6, 0.5  # of the logarithms of a week's and a day's share


@dataclass(frozen=True)
class Timing:
    """When requests come: a pace, from a day to a day, the hour of nightly jobs, each day's weight (none: alike)."""

    pace: Pace
    first: float
    last: float
    hour: float
    days: tuple[float, ...] = ()


def draw_timing(
    rng: random.Random, paces: Paces, per_day: tuple[float, float] | None = None, requests: int = 0
) -> Timing:
    """Draw a timing; `per_day`, a range of requests, settles how long `requests` of them take."""
    pace: Pace = rng.choices(list(paces), list(paces.values()))[0]  # type: ignore[assignment]
    hour, days = rng.uniform(0, 24), draw_days(rng)
    if per_day is not None:
        length = max(0.5, min(float(DAYS), requests / rng.uniform(*per_day)))
        first = rng.uniform(0, DAYS - length)
        return Timing("whole", first, first + length, hour)
    length = {"whole": rng.choice((28.0, 28.0, rng.uniform(8, 28))), "window": float(np.exp(rng.uniform(*WINDOW))),
              "nightly": rng.choice((28.0, rng.uniform(4, 28))), "drip": rng.uniform(18, 28)}[pace]  # fmt: skip
    first = rng.uniform(0, DAYS - length)
    return Timing(pace, first, first + length, hour, days)


def draw_days(rng: random.Random) -> tuple[float, ...]:
    """Draw the weights of the month's days: weeks that wander, a trend, an incident, an outage, weekends off."""
    level, weights = 0.0, []
    trend = rng.uniform(-0.08, 0.08) if rng.random() < 0.3 else 0.0
    weekends = rng.uniform(0.0, 0.2) if rng.random() < 0.35 else 1.0
    for day in range(DAYS):
        if day % 7 == 0:
            level += rng.gauss(0, WEEKLY_SPREAD)
        weight = np.exp(level + trend * day + rng.gauss(0, DAILY_SPREAD))
        weights.append(float(weight) * (weekends if day % 7 >= 5 else 1.0))
    if rng.random() < 0.15:  # an incident, a campaign of marketing, a loop that went wild
        weights[rng.randrange(DAYS)] *= rng.uniform(4, 25)
    if rng.random() < 0.1:
        outage = rng.randrange(DAYS - 3)
        weights[outage : outage + 3] = [0.02 * weight for weight in weights[outage : outage + 3]]
    return tuple(weights)


def moved(rng: random.Random, timing: Timing) -> Timing:
    """Return the same length of time elsewhere in the month, with other days and another hour."""
    length = timing.last - timing.first
    first = rng.uniform(0, DAYS - length)
    return replace(timing, first=first, last=first + length, hour=rng.uniform(0, 24), days=draw_days(rng))


def in_turn(timing: Timing, rank: int, members: int) -> Timing:
    """Return a member's turn, where members work one after the other over the month."""
    length = timing.last - timing.first
    first = (DAYS - length) * rank / max(1, members - 1)
    return replace(timing, first=first, last=first + length)


def lay_out(timing: Timing, client: Client, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the times of requests in milliseconds since the month's beginning, strictly increasing, shape (count,)."""
    weights = np.array(timing.days or (1.0,) * DAYS)
    if timing.pace == "nightly":
        return _nightly(count, timing, weights, rng)
    if timing.pace == "drip":
        days = rng.uniform(timing.first, timing.last, count)
        hours = _hours(client, rng, count)
        return strictly_increasing(np.sort(((days.astype(np.int64) + hours) * DAY_MS).astype(np.int64)))
    return client.times(rng, count, timing.first, timing.last, weights)


def _nightly(
    count: int, timing: Timing, weights: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    nights = np.arange(int(timing.first), max(int(timing.first) + 1, int(timing.last)))
    # A job's items are the same from night to night, so its weights are those of its weekdays off alone.
    chance = np.where(weights[nights] > 0.2 * np.median(weights[nights]), 1.0, 0.05)
    day = np.sort(rng.choice(nights, count, p=chance / chance.sum()))
    seconds = min(timing.hour, 22.4) * 3600 + rng.uniform(0, 5400, count)  # the last night ends within the month
    return strictly_increasing(np.sort(day * DAY_MS + (seconds * 1000).astype(np.int64)))


def _hours(client: Client, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    by_bin = client.rates.reshape(14, -1).sum(axis=0) + 1e-12
    return np.asarray((rng.choice(len(by_bin), count, p=by_bin / by_bin.sum()) + rng.random(count)) / len(by_bin))
