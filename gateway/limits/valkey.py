"""The meters of several machines, in Valkey (or Redis); one script reports, reaps and grants in a single step.

A gateway's holdings last `lasts_s` after its last report, then others get them; what is spent stays. While Valkey is
away a gateway lets its part of each rate through (the limit over the gateways there were), spends what it holds of
budgets for half that time, and never asks again on the way of a request: its tick does, once a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from valkey.asyncio import Valkey
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import ValkeyError

from gateway.ledger.identifiers import uuid7
from gateway.limits.leases import Answer, Ask, Lease, StoreUnavailable
from gateway.limits.meters import BUDGET_ENDS_S, IDLE_ENDS_S, Kind, Meter, rate_available, rate_cost, rate_wait

PROBE_S = 1.0
PREFIX = "{spiritsafe}:limits:"  # in braces: one slot of a cluster, because a request's meters are decided together
_UNBOUNDED = 2**53
_ANSWER = 6  # numbers for each meter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    """What is said and asked of one meter; `most`: how much may be granted beyond the need."""

    lease: Lease
    refund: int = 0
    need: int = 0
    unit: int = 1
    most: int = 0


class ValkeyStore:
    """A gateway worker's store.

    `lasts_s`: how long its holdings outlive it. `gateways`: how many there are until it is known. `clock` None: the
    server's time counts.
    """

    def __init__(
        self,
        url: str,
        *,
        lasts_s: float,
        timeout_s: float = 0.25,
        gateways: int = 1,
        idle_ticks: int = 100,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._client = Valkey.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._client.register_script(Path(__file__).with_suffix(".lua").read_text())
        self.idle_ticks = idle_ticks
        self._id = uuid7()
        self._lasts_s = lasts_s
        self._clock = clock
        self._reported_at = time.monotonic()
        self._down = False
        self._probe_at = 0.0
        self._gateways = gateways
        self._alone: dict[Lease, int] = {}  # when each rate's bucket is full, while nobody else is heard of

    def attach(self, meter: Meter) -> Lease:
        """Return an empty lease; Valkey hears of it when something is asked of it."""
        return Lease(meter, [0, 0], 0)

    async def take(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Grant all that is asked for, or nothing."""
        if self._down:
            raise StoreUnavailable
        rows = [_Row(ask.lease, need=ask.need, unit=ask.unit, most=_UNBOUNDED) for ask in asks]
        answers = await self._report(rows)
        for ask, answer in zip(asks, answers, strict=True):
            ask.lease.cells[0] += answer.granted
        return answers

    async def settle(self, returns: Iterable[tuple[Lease, int]], active: Iterable[Lease]) -> None:
        """Report all active leases with what goes back, and top up those that are much in use."""
        refunds = dict(returns)
        for lease, amount in refunds.items():
            lease.cells[0] -= amount
        rows = [_Row(lease, refunds.get(lease, 0), most=_top_up(lease)) for lease in active]
        if not rows:
            return
        for row, answer in zip(rows, await self._report(rows), strict=True):
            row.lease.cells[0] += answer.granted
            row.lease.free += answer.granted
            row.lease.full_at = answer.full_at
            row.lease.wanted = answer.wanted

    async def ready(self) -> bool:
        """Ask whether it answers when nothing was heard of it for a second."""
        if time.monotonic() >= self._probe_at:
            try:
                await self._client.ping()
                self._heard()
            except (ValkeyError, OSError):
                self._failed()
        return not self._down

    def emergency(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Let this gateway's part of rates and slots through; a budget can't be divided: `StoreUnavailable`."""
        if any(ask.lease.meter.kind is Kind.BUDGET for ask in asks):
            raise StoreUnavailable
        answers = [self._alone_answer(ask) for ask in asks]
        if any(answer.granted < ask.need for ask, answer in zip(asks, answers, strict=True)):
            return [Answer(0, wait_s=answer.wait_s or 0.0) for answer in answers]
        for ask, answer in zip(asks, answers, strict=True):
            ask.lease.cells[0] += answer.granted
            if ask.lease.meter.kind is Kind.RATE:
                self._alone[ask.lease] = answer.full_at
        return answers

    def lapsed(self) -> bool:
        """Has Valkey been away for so long that others may soon get what this gateway holds?"""
        return self._down and time.monotonic() - self._reported_at > self._lasts_s / 2

    def expect(self, lifetime_s: float) -> None:
        """Let what this gateway holds outlive it for that long."""
        self._lasts_s = lifetime_s

    async def spent(self, meter: Meter) -> int:
        """Return what was spent of a budget, by all."""
        fields = await self._fields(meter)
        return sum(int(value) for name, value in fields.items() if not name.startswith(b"h:"))

    async def rebuild(self, meter: Meter, recorded: int) -> None:
        """Let a budget's spending be what was recorded; what is spent in this moment may be missed."""
        difference = recorded - await self.spent(meter)
        await self._client.hincrby(self._key(meter), "base", difference)

    async def close(self) -> None:
        """Leave the gateways, so that others need not wait for what is still held to lapse."""
        with suppress(ValkeyError, OSError):
            await self._client.zrem(PREFIX + "gateways", self._id)
        await self._client.aclose()

    async def _fields(self, meter: Meter) -> dict[bytes, bytes]:
        try:
            found: dict[bytes, bytes] = await self._client.hgetall(self._key(meter))
        except (ValkeyError, OSError) as error:
            raise StoreUnavailable(f"the store of the limits does not answer: {error}") from error
        return found

    def _key(self, meter: Meter) -> str:
        return PREFIX + meter.key.hex()

    async def _report(self, rows: Sequence[_Row]) -> list[Answer]:
        keys = [PREFIX + "gateways", *(self._key(row.lease.meter) for row in rows)]
        now = 0 if self._clock is None else int(self._clock() * 1e6)
        arguments: list[str | int] = [self._id, now, int(self._lasts_s * 1000)]
        for row in rows:
            arguments += self._arguments(row)
        began = time.monotonic()
        try:
            numbers = [int(number) for number in await self._script(keys, arguments)]
        except (ValkeyError, OSError) as error:
            logger.info("the store of the limits does not answer: %s", error)
            self._failed()
            raise StoreUnavailable from error
        self._heard()
        self._reported_at = began
        self._gateways = numbers[0]
        self._alone = {}
        found = [numbers[at : at + _ANSWER] for at in range(1, len(numbers), _ANSWER)]
        return [self._answer(row, *values) for row, values in zip(rows, found, strict=True)]

    def _arguments(self, row: _Row) -> list[int]:
        lease, meter = row.lease, row.lease.meter
        forgotten = meter.ends + BUDGET_ENDS_S - int(self._now()) if meter.ends else IDLE_ENDS_S
        held, used = lease.cells[0], lease.cells[1]
        forgotten_ms = max(1, forgotten) * 1000
        return [int(meter.kind), meter.limit, held, used, row.refund, row.need, row.unit, row.most, forgotten_ms]

    def _answer(
        self, row: _Row, granted: int, keep: int, ahead_us: int, wait_us: int, spent: int, wanted: int
    ) -> Answer:
        now = self._now()
        wait = None if wait_us < 0 else wait_us / 1e6
        if spent:
            wait = max(0.0, row.lease.meter.ends - now)
        return Answer(granted, keep, int(now * 1e9) + ahead_us * 1000, wait, bool(spent), bool(wanted))

    def _now(self) -> float:
        return time.time() if self._clock is None else self._clock()

    def _heard(self) -> None:
        self._down = False
        self._probe_at = time.monotonic() + PROBE_S

    def _failed(self) -> None:
        self._down = True
        self._probe_at = time.monotonic() + PROBE_S

    def _alone_answer(self, ask: Ask) -> Answer:
        meter = ask.lease.meter
        part = max(1, meter.limit // self._gateways)
        if meter.kind is Kind.SLOTS:
            return Answer(ask.need if ask.lease.held + ask.need <= part else 0)
        now = int(self._now() * 1e9)
        full_at = max(now, self._alone.get(ask.lease, now))
        if rate_available(full_at, part, now) >= ask.need:
            return Answer(ask.need, full_at=full_at + rate_cost(ask.need, part))
        wait = rate_wait(full_at, part, ask.need, now)
        # What is more than this gateway's part may fit the whole, once the store is back.
        return Answer(0, full_at=full_at, wait_s=PROBE_S if wait is None else wait / 1e9)


def _top_up(lease: Lease) -> int:
    """Return what a lease that is much in use gets before it is empty, so that no request waits for it."""
    return lease.keep - lease.free if lease.keep > 0 and 2 * lease.free < lease.keep else 0
