"""Ids and times: unique, ordered, and written as the record wants them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.ledger.identifiers import from_rfc3339, now, to_rfc3339, uuid7


def test_ids_are_version_7_and_follow_time() -> None:
    """RFC 9562's version and variant, the current time in front, and no two alike."""
    before = int(now().timestamp() * 1000)
    ids = [uuid7() for _number in range(1000)]
    after = int(now().timestamp() * 1000)
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    for text in (ids[0], ids[-1]):
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after


def test_now_has_whole_milliseconds() -> None:
    """What is stored is what was made."""
    moment = now()
    assert moment.microsecond % 1000 == 0
    assert from_rfc3339(to_rfc3339(moment)) == moment


def test_times_are_written_in_utc() -> None:
    """Any zone becomes Z, always with three decimals."""
    assert to_rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))) == "2026-01-02T02:04:05.000Z"
    assert from_rfc3339("2026-01-02T03:04:05+01:00") == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    """A guess at the zone would move history by hours."""
    with pytest.raises(ValueError, match="no time zone"):
        from_rfc3339("2026-01-02T03:04:05")
