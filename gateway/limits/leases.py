"""The limiter of a worker: requests reserve from leases in its own memory, and a store is asked only for more of them.

A lease is the part of a meter that this worker holds. It counts as used wherever the meter is kept, until it is spent
or given back; it is large while much is left and shrinks to what one request needs near the limit, so that no worker
is refused what another holds and does not use. What is held and spent is written into the store's cells as it
happens, so that it can be told of a worker that was killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from gateway.ledger.limits import Limits
from gateway.limits.meters import MINUTE_NS, Kind, Meter, day_budget, meters_of, next_midnight

TICK_S = 0.1
MOST_PLANS = 100_000  # combinations of account, key and model that are remembered
TRIES = 3

logger = logging.getLogger(__name__)


class Cells(Protocol):
    """Words that this worker alone writes."""

    def __getitem__(self, at: int, /) -> int:
        """Read one."""
        ...

    def __setitem__(self, at: int, value: int, /) -> None:
        """Write one."""
        ...


class Lease:
    """What this worker holds of one meter: `free` is not promised to a request, `keep` of it may stay in hand.

    `cells[at]` is all that is held, `cells[at + 1]` all that was spent. `full_at`: a rate's bucket as last heard of.
    """

    __slots__ = ("at", "cells", "free", "full_at", "idle", "keep", "meter", "seen", "wanted")

    def __init__(self, meter: Meter, cells: Cells, at: int) -> None:
        self.meter = meter
        self.cells = cells
        self.at = at
        self.free = 0
        self.keep = 0
        self.full_at = 0
        self.seen = 0  # `free` at the last tick
        self.idle = 0  # ticks since it last changed
        self.wanted = False  # somebody else was refused for what is held

    @property
    def held(self) -> int:
        """All that this worker holds, promised or not."""
        return self.cells[self.at]

    def spending(self, now_s: float) -> bool:
        """Was anything spent of a budget whose window lasts?"""
        return self.meter.ends > now_s and self.cells[self.at + 1] != 0


@dataclass(frozen=True)
class Ask:
    """What a request lacks of a lease; `unit` is what one such request needs."""

    lease: Lease
    need: int
    unit: int


@dataclass(frozen=True)
class Answer:
    """What a store granted: at least what was asked for, or nothing.

    `keep`: how much of it may stay in hand. `wait_s`: until it can be granted, None where it never is or nobody knows.
    `spent`: a budget is refused for what was spent, not only for what is promised to requests under way. `wanted`:
    others were refused for what is held.
    """

    granted: int
    keep: int = 0
    full_at: int = 0
    wait_s: float | None = None
    spent: bool = False
    wanted: bool = False


class StoreUnavailable(Exception):
    """The store does not answer; rates go on with this worker's part of them, budgets with what is held."""


class LeaseStore(Protocol):
    """Where the leases come from. Nothing here is called where leases suffice.

    `idle_ticks`: how long a lease may lie unused before it goes back.
    """

    idle_ticks: int

    def attach(self, meter: Meter) -> Lease:
        """Return an empty lease on a meter, with the cells where it is counted."""
        ...

    async def take(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Grant all that is asked for, or nothing; `StoreUnavailable` when it can't be decided."""
        ...

    async def settle(self, returns: Iterable[tuple[Lease, int]], active: Iterable[Lease]) -> None:
        """Take back what is not needed (negative: charge a debt), and hear what became of all active leases.

        `StoreUnavailable` when it has to wait; the cells are right in any case.
        """
        ...

    async def ready(self) -> bool:
        """Say whether it answers; one that did not the last time is asked now and then."""
        ...

    def lapsed(self) -> bool:
        """Has it been away for so long that others may get what this worker holds?"""
        ...

    def emergency(self, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Decide alone while the store is away; `StoreUnavailable` for what can't be decided alone."""
        ...

    def expect(self, lifetime_s: float) -> None:
        """Go by another lifetime of reservations from now on."""
        ...

    async def spent(self, meter: Meter) -> int:
        """Return what was spent of a budget, by all; `StoreUnavailable`."""
        ...

    async def rebuild(self, meter: Meter, recorded: int) -> None:
        """Let a budget's spending be what was recorded; `StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...


class LimitReached(Exception):
    """A meter has less than is needed; `wait_s` until it has, None where it never will or nobody knows."""

    def __init__(self, meter: Meter, need: int, answer: Answer) -> None:
        super().__init__(f"{meter.subject} {meter.quantity} of {meter.limit}")
        self.meter = meter
        self.need = need
        self.wait_s = answer.wait_s
        self.spent = answer.spent


@dataclass(frozen=True)
class Plan:
    """The leases that one account's requests with one key to one model take from, until the day ends."""

    requests: tuple[Lease, ...]
    tokens: tuple[Lease, ...]
    slots: tuple[Lease, ...]
    money: tuple[Lease, ...]
    max_output: int | None
    until: float

    @cached_property
    def bounded(self) -> bool:
        """Must a request say at most how much it answers?"""
        return bool(self.tokens or self.money or self.max_output is not None)

    def needs(self, tokens: int, cost: int) -> list[tuple[Lease, int]]:
        """Return what a request takes of each lease."""
        amounts = ((self.requests, 1), (self.slots, 1), (self.tokens, tokens), (self.money, cost))
        return [(lease, amount) for leases, amount in amounts for lease in leases]


@dataclass(eq=False, slots=True)
class Reservation:
    """One request's part of every limit that applies, held until it is settled, once."""

    limiter: LeasedLimiter
    plan: Plan
    tokens: int
    cost: int
    expires: float
    settled: bool = False

    def settle(self, tokens: int, cost: int) -> None:
        """Spend what was used (all tokens; nano-dollars) and give back the rest; a second time does nothing."""
        if not self.settled:
            self.settled = True
            self.limiter.settle(self, tokens, cost)


class Limiter(Protocol):
    """The seam: reserve from what is in hand, else acquire; a reservation is settled with what was used."""

    def plan(self, limits: Limits, account: str, key: str, model: str) -> Plan | None:
        """Return which of these limits bind such requests, or None when none does."""
        ...

    def reserve(self, plan: Plan, tokens: int, cost: int) -> Reservation | None:
        """Reserve one request and its bounds from what is in hand, or None when that is too little."""
        ...

    async def acquire(self, plan: Plan, tokens: int, cost: int) -> Reservation:
        """Reserve with what the store has too; `LimitReached`, or `StoreUnavailable`."""
        ...


class LeasedLimiter:
    """A worker's limiter over a store. `clock` gives Unix seconds; `lifetime_s` is how long a reservation may last."""

    def __init__(self, store: LeaseStore, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._lifetime_s = lifetime_s
        self._clock = clock
        self.limits: Limits = {}
        self._plans: dict[tuple[str, str, str], Plan | None] = {}
        self._until = 0.0
        self._leases: dict[bytes, Lease] = {}
        self._active: dict[Lease, None] = {}  # those that hold something
        self._open: dict[Reservation, None] = {}
        self._lock = asyncio.Lock()
        self.available = True  # did the store answer when it was last asked?

    def use(self, limits: Limits) -> None:
        """Go by these limits from now on; what is held of changed ones goes back at the next tick."""
        self.limits = limits
        for lease in list(self._active):
            lease.keep = 0
        self._forget_plans()

    def expect(self, lifetime_s: float) -> None:
        """Go by another lifetime from now on; what is reserved already keeps its own."""
        self._lifetime_s = lifetime_s
        self._store.expect(lifetime_s)

    def plan(self, limits: Limits, account: str, key: str, model: str) -> Plan | None:
        """Return which of these limits bind such requests, or None when none does."""
        if limits is not self.limits:
            self.use(limits)
        if not limits:
            return None
        if self._clock() >= self._until:
            self._until = next_midnight(self._clock())
            self._forget_plans()
        found = self._plans.get((account, key, model), ...)
        return self._make_plan(account, key, model) if found is ... else found

    def budget(self, account: str, quantity: str, limit: int) -> Plan:
        """Return the plan of a day's budget that no limit names, such as that of an account which is capped.

        It is reserved and settled as money is, whatever it counts.
        """
        lease = self._lease(day_budget("account", account, quantity, limit, self._clock()))
        return Plan((), (), (), (lease,), None, lease.meter.ends)

    def reserve(self, plan: Plan, tokens: int, cost: int) -> Reservation | None:
        """Reserve one request and its bounds from what is in hand, or None when that is too little."""
        for lease in plan.requests:
            if lease.free < 1:
                return None
        for lease in plan.slots:
            if lease.free < 1:
                return None
        for lease in plan.tokens:
            if lease.free < tokens:
                return None
        for lease in plan.money:
            if lease.free < cost:
                return None
        for lease in plan.requests:
            lease.free -= 1
        for lease in plan.slots:
            lease.free -= 1
        for lease in plan.tokens:
            lease.free -= tokens
        for lease in plan.money:
            lease.free -= cost
        reservation = Reservation(self, plan, tokens, cost, self._clock() + self._lifetime_s)
        self._open[reservation] = None
        return reservation

    async def acquire(self, plan: Plan, tokens: int, cost: int) -> Reservation:
        """Reserve with what the store has too; `LimitReached`, or `StoreUnavailable` when a budget can't be asked."""
        async with self._lock:
            for _ in range(TRIES):
                reservation = self.reserve(plan, tokens, cost)
                if reservation is not None:
                    return reservation
                await self._refill(plan, tokens, cost)
            # A rate's lease that is granted is there; only settled debts of others can have eaten it meanwhile.
            raise LimitReached(*_first_lacking(plan, tokens, cost), Answer(0, wait_s=TICK_S))

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """Spend and give back; what is spent is in the cells before it is no longer held, whenever we may be killed."""
        self._open.pop(reservation, None)
        plan = reservation.plan
        for lease in plan.requests:
            lease.cells[lease.at] -= 1
        for lease in plan.slots:
            if lease.free < lease.keep:
                lease.free += 1
            else:
                lease.cells[lease.at] -= 1
        for lease in plan.tokens:
            lease.cells[lease.at] -= tokens
            lease.free += reservation.tokens - tokens
        for lease in plan.money:
            cells, at = lease.cells, lease.at
            cells[at + 1] += cost
            free = lease.free + reservation.cost - cost
            surplus = free - lease.keep
            if surplus > 0:
                cells[at] -= cost + surplus
                lease.free = lease.keep
            else:
                cells[at] -= cost
                lease.free = free

    def left(self, leases: Sequence[Lease]) -> tuple[int, int, float] | None:
        """Return limit, what remains and the seconds until all does, of the rate with the least; None without one."""
        found = None
        now = int(self._clock() * 1e9)
        for lease in leases:
            limit = lease.meter.limit
            if now >= lease.full_at and lease.free >= 0:
                missing = 0
            else:
                missing = -((now - lease.full_at) * limit // MINUTE_NS) - lease.free  # rounded up
                missing = 0 if missing < 0 else min(missing, limit)
            if found is None or limit - missing < found[1]:
                found = limit, limit - missing, missing * 60 / limit
        return found

    async def tick(self) -> None:
        """Give back what is idle, end what was never settled, and tell the store what became of the rest."""
        self._expire()
        if not await self._store.ready():
            self._heard(False)
            if self._store.lapsed():
                self._drop_budgets()
            return
        self._heard(True)
        async with self._lock:
            active = list(self._active)
            returns = [(lease, surplus) for lease in active if (surplus := self._surplus(lease))]
            for lease, surplus in returns:
                lease.free -= surplus
            try:
                await self._store.settle(returns, active)
            except StoreUnavailable:
                self._heard(False)
                return
            for lease in active:
                if not lease.held:
                    self._active.pop(lease, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except Exception:
                logger.exception("limits could not be tended; it is tried again")

    async def close(self) -> None:
        """Give everything back."""
        for reservation in list(self._open):
            reservation.settle(0, 0)
        for lease in self._active:
            lease.wanted = True
        await self.tick()
        await self._store.close()

    def _forget_plans(self) -> None:
        # A lease with something to tell stays the only one of its meter: what it spent is nowhere else for sure.
        self._plans = {}
        moment = self._clock()
        kept = {key: lease for key, lease in self._leases.items() if lease in self._active or lease.spending(moment)}
        self._leases = kept

    def _surplus(self, lease: Lease) -> int:
        """Return what goes back: what is over `keep`, all of an idle or wanted lease; negative: a debt to charge."""
        lease.idle = lease.idle + 1 if lease.free == lease.seen else 0
        if lease.wanted or lease.free < 0 or lease.idle >= self._store.idle_ticks:
            lease.keep = lease.idle = 0
            lease.wanted = False
        surplus = lease.free if lease.free < 0 else max(0, lease.free - lease.keep)
        lease.seen = lease.free - surplus
        return surplus

    def _drop_budgets(self) -> None:
        for lease in self._active:
            if lease.meter.kind is Kind.BUDGET and lease.free > 0:
                lease.cells[lease.at] -= lease.free
                lease.free = 0

    def _make_plan(self, account: str, key: str, model: str) -> Plan | None:
        if len(self._plans) >= MOST_PLANS:
            self._forget_plans()
        subjects = (("account", account), ("key", key), ("model", model))
        limits = [self.limits[subject] for subject in subjects if subject in self.limits]
        leases = [self._lease(meter) for limit in limits for meter in meters_of(limit, self._clock())]
        maxima = [limit.max_output for limit in limits if limit.max_output is not None]
        plan = None
        if leases or maxima:
            plan = Plan(
                _of(leases, "rpm"),
                _of(leases, "tpm"),
                _of(leases, "parallel"),
                _of(leases, "usd_day", "usd_month"),
                min(maxima, default=None),
                self._until,
            )
        self._plans[account, key, model] = plan
        return plan

    def _lease(self, meter: Meter) -> Lease:
        lease = self._leases.get(meter.key)
        if lease is None:
            lease = self._leases[meter.key] = self._store.attach(meter)
        lease.meter = meter
        return lease

    async def _refill(self, plan: Plan, tokens: int, cost: int) -> None:
        """Ask for what is lacking; each lease then has it, or `LimitReached` says which one can't."""
        needs = [(lease, amount) for lease, amount in plan.needs(tokens, cost) if lease.free < amount]
        asks = [Ask(lease, amount - lease.free, amount) for lease, amount in needs]
        try:
            answers = await self._store.take(asks)
            self._heard(True)
        except StoreUnavailable:
            self._heard(False)
            answers = self._store.emergency(asks)
        refused = [(ask, answer) for ask, answer in zip(asks, answers, strict=True) if answer.granted < ask.need]
        if refused:
            ask, answer = max(refused, key=lambda pair: _severity(pair[1]))
            raise LimitReached(ask.lease.meter, ask.unit, answer)
        for ask, answer in zip(asks, answers, strict=True):
            ask.lease.free += answer.granted
            ask.lease.keep = answer.keep
            ask.lease.full_at = answer.full_at
            self._active[ask.lease] = None

    def _expire(self) -> None:
        moment = self._clock()
        while self._open:
            oldest = next(iter(self._open))
            if oldest.expires > moment:
                return
            logger.error("a reservation was never settled and is given back")
            oldest.settle(0, 0)

    def _heard(self, available: bool) -> None:
        if available != self.available:
            if available:
                self._active |= dict.fromkeys(self._leases.values())  # all is told again, should it have been forgotten
            logger.warning("the store of the limits %s", "answers again" if available else "does not answer")
        self.available = available


def _of(leases: Iterable[Lease], *quantities: str) -> tuple[Lease, ...]:
    return tuple(lease for lease in leases if lease.meter.quantity in quantities)


def _severity(answer: Answer) -> tuple[bool, float]:
    return answer.spent, float("inf") if answer.wait_s is None else answer.wait_s


def _first_lacking(plan: Plan, tokens: int, cost: int) -> tuple[Meter, int]:
    needs = plan.needs(tokens, cost)
    lease, amount = next(((lease, amount) for lease, amount in needs if lease.free < amount), needs[0])
    return lease.meter, amount
