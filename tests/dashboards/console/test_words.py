"""Numbers, money and times in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboards.console import words
from distiller import selection

MOMENT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (812, "812"), (35_000, "35.0 k"), (410_400, "410 k"), (1_940_000, "1.94 M"), (None, "–")],
)
def test_counts_are_written_in_three_figures(value: int | None, text: str) -> None:
    """A count fits a table's column at any size."""
    assert words.compact(value).replace("\u00a0", " ") == text


def test_thousands_are_set_apart_by_thin_spaces() -> None:
    """Numbers use thin spaces and a real minus sign."""
    assert words.number(-1234567) == "−1\u2009234\u2009567"


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (12_300_000_000, "$12.30"),
        (62_000_000, "$0.062"),
        (9_710_000, "$0.00971"),
        (-5_000_000_000, "−$5.00"),
        (None, "–"),
    ],
)
def test_money_comes_from_nano_dollars(nano: int | None, text: str) -> None:
    """Small sums keep the figures that tell them from nothing."""
    assert words.money(nano) == text


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(seconds=20), "just now"),
        (timedelta(minutes=2), "2 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=6), "6 d ago"),
        (timedelta(days=-7), "in 7 d"),
    ],
)
def test_times_are_relative(back: timedelta, text: str) -> None:
    """The past is “ago”, the future is “in”."""
    assert words.ago(MOMENT - back, MOMENT).replace("\u00a0", " ") == text


def test_a_time_carries_the_exact_one() -> None:
    """The exact time is on hover and in the datetime attribute."""
    markup = words.when(MOMENT)
    assert 'datetime="2026-11-24T09:30:00.000Z"' in markup
    assert 'title="2026-11-24 09:30:00 UTC"' in markup


def test_shares_are_percentages_and_counts_are_not() -> None:
    """The unit follows from the feature's name."""
    assert words.measure(0.94, "unseen_share") == "94\u00a0%"
    assert words.measure(523.0, "output_tokens_mean") == "523"
    assert words.measure(6.2, "repeats_per_prompt") == "6.20"


def test_every_reason_to_leave_a_row_out_has_words() -> None:
    """What the distiller counts is explained to whoever approves."""
    assert set(words.LEFT_OUT) >= set(selection.WORDS)


def test_a_hash_is_escaped() -> None:
    """What stands in for a hash can't become markup."""
    assert "<script>" not in words.short("<script>alert(1)</script>")
