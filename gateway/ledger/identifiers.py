"""Ids and times are made by logic, once, and inserted as they are (UUIDv7: RFC 9562 § 5.7)."""

import os
import time
from datetime import UTC, datetime
from functools import lru_cache


def now() -> datetime:
    """Return the present moment in UTC, cut to whole milliseconds, as every store keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


_POOL = 4096  # bytes of randomness that one call of the system gives
_random: list[int] = []
os.register_at_fork(after_in_child=_random.clear)  # or parent and child would make the same ids


def uuid7() -> str:
    """Return a new UUIDv7 as text: 48 bits of Unix milliseconds, 12 of their fraction, then 62 random bits.

    With the fraction (§ 6.2, method 3) the ids that one process makes within a millisecond are in order too.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    try:
        random = _random.pop()
    except IndexError:
        _random.extend(memoryview(os.urandom(_POOL)).cast("Q"))
        random = _random.pop()
    low = random >> 2 | 1 << 63
    text = f"{milliseconds << 16 | 0x7000 | rest * 4096 // 1_000_000:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def to_rfc3339(moment: datetime) -> str:
    """Write a UTC time as RFC 3339 with milliseconds, such as `2026-11-24T09:30:00.125Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='milliseconds')[:23]}Z"


def rfc3339_of(nanoseconds: int) -> str:
    """Write a moment of `time.time_ns()` as `to_rfc3339` does, at a tenth of its cost."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time; a time without a zone is an error (`ValueError`)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it in UTC with a trailing Z")
    return moment.astimezone(UTC)
