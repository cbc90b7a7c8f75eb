"""The limiter over the memory that the workers of a machine share."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from gateway.limits.leases import LeasedLimiter
from gateway.limits.shared import SharedStore
from tests.checks import Clock, Subject, check_limiter


def subject(folder: Path, workers: int = 1, clock: Clock | None = None) -> Subject:
    """Return a worker's limiter; those of one folder share their limits."""
    clock = clock or Clock()
    return Subject(LeasedLimiter(SharedStore(folder, workers, clock), 660.0, clock), clock, asyncio.run)


def test_it_is_a_limiter_alone(tmp_path: Path) -> None:
    """All that a limiter promises, for a worker that is alone."""
    folders = (tmp_path / str(number) for number in itertools.count())
    check_limiter(lambda: subject(next(folders)))


def test_it_is_a_limiter_among_others(tmp_path: Path) -> None:
    """And for one of several, whose leases are smaller."""
    folders = (tmp_path / str(number) for number in itertools.count())
    check_limiter(lambda: subject(next(folders), 4))
