"""What limiters promise together: however their requests, ticks and deaths fall, no limit is overspent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from gateway.limits.leases import LimitReached, Reservation
from tests.checks import Subject, limits_of

BUDGET, SLOTS, TPM = 1000, 6, 600
NEVER_S = 1e6  # deaths take long here: requests under way must not expire meanwhile
LIMITS = limits_of(usd_month=BUDGET, parallel=SLOTS, tpm=TPM)

# (which gateway, what, two numbers)
Step = tuple[int, str, int, int]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["reserve"] * 6 + ["settle"] * 4 + ["tick", "tick", "wait", "kill", "kill"]),
        st.integers(1, 200),
        st.integers(0, 100),
    ),
    min_size=8,
    max_size=60,
)
SPENT_AND_KILLED: list[Step] = [(1, "reserve", 200, 0), (1, "settle", 0, 90), (1, "reserve", 200, 0), (1, "kill", 0, 0)]


@dataclass
class Gateway:
    """A gateway and the reservations of its requests under way."""

    subject: Subject
    under_way: list[Reservation] = field(default_factory=list)


class House:
    """Two gateways on one clock. `make(n)` starts gateway n anew, `kill` ends one as `kill -9` does."""

    def __init__(self, make: Callable[[int], Subject], kill: Callable[[Subject], None]) -> None:
        self._make = make
        self._kill = kill
        self.gateways = [Gateway(make(0)), Gateway(make(1))]
        self.clock = self.gateways[0].subject.clock
        self.began = self.clock.now
        self.spent = 0
        self.tokens = 0

    def step(self, step: Step) -> None:
        """Do one thing and check that nothing is overspent."""
        number, what, amount, share = step
        gateway = self.gateways[number]
        if what == "reserve":
            self._reserve(gateway, amount)
        elif what == "settle" and gateway.under_way:
            self._settle(gateway, share)
        elif what == "tick":
            gateway.subject.run(gateway.subject.limiter.tick())
        elif what == "wait":
            self.clock.now += share / 10
        elif what == "kill":
            self._kill(gateway.subject)
            self.gateways[number] = Gateway(self._make(number))
        self._check()

    def end(self) -> None:
        """End every request and see that all that was not spent is there."""
        for gateway in self.gateways:
            while gateway.under_way:
                self._settle(gateway, 50)
        self.clock.now += 120.0
        for gateway in self.gateways:
            gateway.subject.tick(3)
        subject = self.gateways[0].subject
        plan = subject.plan(LIMITS)
        assert self.spent == BUDGET or subject.reserve(plan, TPM, BUDGET - self.spent)
        assert subject.refused(plan, 0, 1).meter.quantity in ("usd_month", "parallel")

    def close(self) -> None:
        """Close both gateways."""
        for gateway in self.gateways:
            gateway.subject.run(gateway.subject.limiter.close())

    def _reserve(self, gateway: Gateway, amount: int) -> None:
        try:
            found = gateway.subject.reserve(gateway.subject.plan(LIMITS), amount, amount)
        except LimitReached:
            return
        gateway.under_way.append(found)

    def _settle(self, gateway: Gateway, share: int) -> None:
        reservation = gateway.under_way.pop(0)
        used = reservation.cost * share // 100
        self.spent += used
        self.tokens += used
        reservation.settle(used, used)

    def _check(self) -> None:
        under_way = [reservation for gateway in self.gateways for reservation in gateway.under_way]
        assert self.spent + sum(reservation.cost for reservation in under_way) <= BUDGET
        assert len(under_way) <= SLOTS
        assert self.tokens <= TPM + TPM * (self.clock.now - self.began) / 60
