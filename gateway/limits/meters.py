"""What is counted: a meter is one quantity of one subject, in one window. All arithmetic is on whole numbers.

Rates are kept as the generic cell rate algorithm does (ITU-T I.371, annex A): one time stands for the whole bucket, the
moment at which it will be full again. A full bucket holds one minute's allowance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cached_property

from gateway.ledger.limits import Limit

MINUTE_NS = 60_000_000_000
IDLE_ENDS_S = 3600  # a rate or a slot that nobody used for so long has nothing to remember
BUDGET_ENDS_S = 86400  # a budget's window may be settled for so long after its end


class Kind(IntEnum):
    """How a meter counts: `RATE` refills, `SLOTS` come back, `BUDGET` is spent until its window ends."""

    RATE = 1
    SLOTS = 2
    BUDGET = 3


@dataclass(frozen=True)
class Meter:
    """One number that is limited; `window` is the calendar's day or month, empty where there is none.

    `begins`, `ends`: Unix seconds of the window, 0 for a meter without one.
    """

    subject: str
    name: str
    quantity: str
    limit: int
    window: str = ""
    ends: int = 0
    begins: int = 0

    @property
    def kind(self) -> Kind:
        """How it counts."""
        if self.quantity in ("rpm", "tpm"):
            return Kind.RATE
        return Kind.SLOTS if self.quantity == "parallel" else Kind.BUDGET

    @cached_property
    def key(self) -> bytes:
        """What names it wherever it is stored, whatever its limit is (16 bytes)."""
        text = "\0".join((self.subject, self.name, self.quantity, self.window))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


def meters_of(limit: Limit, now_s: float) -> list[Meter]:
    """Return the meters of a subject at a moment."""
    day = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    windows = {
        "usd_day": (day.strftime("%Y-%m-%d"), _seconds(day + timedelta(days=1)), _seconds(day)),
        "usd_month": (day.strftime("%Y-%m"), _seconds((month + timedelta(days=32)).replace(day=1)), _seconds(month)),
    }
    found = []
    for quantity in ("rpm", "tpm", "parallel", "usd_day", "usd_month"):
        value = getattr(limit, quantity)
        if value is not None:
            found.append(Meter(limit.subject, limit.name, quantity, value, *windows.get(quantity, ("", 0, 0))))
    return found


def day_budget(subject: str, name: str, quantity: str, limit: int, now_s: float) -> Meter:
    """Return the meter of a budget of the calendar's day that no `Limit` names."""
    day = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ends = _seconds(day + timedelta(days=1))
    return Meter(subject, name, quantity, limit, day.strftime("%Y-%m-%d"), ends, _seconds(day))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def next_midnight(now_s: float) -> float:
    """Return when the day ends (Unix seconds, UTC)."""
    return (now_s // 86400 + 1) * 86400


def rate_cost(amount: int, limit: int) -> int:
    """Return how long (nanoseconds) a rate needs to refill an amount."""
    return amount * MINUTE_NS // limit


def rate_available(full_at: int, limit: int, now_ns: int) -> int:
    """Return what a bucket holds that will be full at `full_at`."""
    return min(limit, max(0, now_ns + MINUTE_NS - max(full_at, now_ns)) * limit // MINUTE_NS)


def rate_wait(full_at: int, limit: int, amount: int, now_ns: int) -> int | None:
    """Return the nanoseconds until a bucket holds an amount, or None when it never does."""
    if amount > limit:
        return None
    needed = -(-amount * MINUTE_NS // limit)
    return max(0, full_at + needed - now_ns - MINUTE_NS)
