"""Is memory flat? Resident memory of processes over their lives, judged by the ends of the longest one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.rig.accounting import resident_mb

INTERVAL_S = 1.0
WARM_UP_S = 120.0  # of each life: a worker's caches are full after some 5,000 requests
SHOWN_S = 30.0  # a life shorter than this after its warm-up has no figures,
LEAST_S = 300.0  # and one shorter than this is not judged
MOST_GROWTH = 0.10  # from the first quarter's median to the last one's


@dataclass(frozen=True)
class Sample:
    """Resident megabytes of a process at a moment, in seconds."""

    name: str
    pid: int
    at: float
    mb: float


@dataclass(frozen=True)
class Course:
    """The longest life of a process after its warm-up; `slope` is in megabytes a minute. No figures of a short one."""

    name: str
    lives: int
    seconds: float
    first_mb: float | None = None
    last_mb: float | None = None
    slope: float | None = None

    @property
    def is_flat(self) -> bool | None:
        """Whether it grew by no more than it may; None: it was too short to say."""
        if self.first_mb is None or self.last_mb is None or self.seconds < LEAST_S:
            return None
        return self.last_mb <= self.first_mb * (1 + MOST_GROWTH)


async def watch(processes: Callable[[], dict[str, int]], samples: list[Sample]) -> None:
    """Take samples until cancelled."""
    while True:
        now = time.monotonic()
        for name, pid in processes().items():
            mb = resident_mb([pid])
            if mb:
                samples.append(Sample(name, pid, now, mb))
        await asyncio.sleep(INTERVAL_S)


def courses(samples: Iterable[Sample]) -> list[Course]:
    """Return how it went for each process, by name."""
    lives: defaultdict[str, defaultdict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        lives[sample.name][sample.pid].append(sample)
    return [_course(name, list(found.values())) for name, found in sorted(lives.items())]


def _course(name: str, lives: list[list[Sample]]) -> Course:
    longest = max(lives, key=lambda life: life[-1].at - life[0].at)
    steady = [sample for sample in longest if sample.at >= longest[0].at + WARM_UP_S]
    seconds = steady[-1].at - steady[0].at if steady else 0.0
    if seconds < SHOWN_S:
        return Course(name, len(lives), seconds)
    quarter = max(1, len(steady) // 4)
    first, last = (statistics.median(sample.mb for sample in part) for part in (steady[:quarter], steady[-quarter:]))
    slope = statistics.linear_regression([sample.at / 60 for sample in steady], [sample.mb for sample in steady]).slope
    return Course(name, len(lives), seconds, first, last, slope)
