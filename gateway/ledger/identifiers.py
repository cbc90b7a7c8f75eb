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
    """Return a new UUIDv7 as text: 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def to_rfc3339(moment: datetime) -> str:
    """Write a UTC time as RFC 3339 with milliseconds, such as `2026-11-24T09:30:00.125Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 time; a time without a zone is an error (`ValueError`)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: write it in UTC with a trailing Z")
    return moment.astimezone(UTC)
