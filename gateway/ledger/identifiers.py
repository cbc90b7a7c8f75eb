"""Ids and times are made by logic, once, and inserted as they are (UUIDv7: RFC 9562 § 5.7)."""

import os
import time
import uuid
from datetime import UTC, datetime


def now() -> datetime:
    """Return the present moment in UTC, cut to whole milliseconds, as every store keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def uuid7() -> str:
    """Return a new UUIDv7 as text: 48 bits of Unix milliseconds, 12 of their fraction, then 62 random bits.

    With the fraction (§ 6.2, method 3) the ids that one process makes within a millisecond are in order too.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random_bits = int.from_bytes(os.urandom(8), "big") >> 2
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random_bits))


def to_rfc3339(moment: datetime) -> str:
    """Write a UTC time as RFC 3339 with milliseconds, such as `2026-11-24T09:30:00.125Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time; a time without a zone is an error (`ValueError`)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it in UTC with a trailing Z")
    return moment.astimezone(UTC)
