"""A full house: requests wait in a weighted fair queue instead of being refused.

Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): a request's start tag is the later of the queue's virtual
time and the finish tag of the one before it of the same flow; the finish tag adds its cost over the flow's weight;
the least start tag goes first. A flow is an account and a lane, so that an account's batch requests never stand
before its own interactive ones for long, and the batch lane has a fraction of an account's weight: it gets little
while others wait, and never nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Lane = Literal["interactive", "batch"]
LANES: tuple[Lane, ...] = ("interactive", "batch")
BATCH_SHARE = 0.1  # of an account's weight
MOST_FLOWS = 10_000  # finish tags that are remembered before those of the past are dropped
MOST_GONE = 64  # places of clients that left, beyond as many as wait, before they are dropped


class QueueFull(Exception):
    """No room, or no turn in time; `retry_after_s` is when there should be one."""

    def __init__(self, retry_after_s: float, *, waited: bool) -> None:
        super().__init__(f"try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s
        self.waited = waited


@dataclass(frozen=True)
class Flow:
    """Whose turn is shared: an account's requests in one lane; `weight` is the account's share against others'."""

    account: str
    lane: Lane = "interactive"
    weight: int = 1

    @property
    def share(self) -> float:
        """The weight that counts."""
        return self.weight * (BATCH_SHARE if self.lane == "batch" else 1.0)


class FairQueue:
    """The turns at one model. `capacity`: requests in flight; `length`: how many may wait in each lane, `wait_s` each.

    Whoever entered, at once or after waiting, leaves in the end.
    """

    def __init__(self, capacity: int, length: int, wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._length = length
        self._wait_s = wait_s
        self._clock = clock
        self._in_flight = 0
        self._virtual = 0.0
        self._finish: dict[tuple[str, Lane], float] = {}
        self._heap: list[tuple[float, int, asyncio.Future[None]]] = []
        self._waiting: Counter[Lane] = Counter()
        self._numbers = itertools.count()
        self._left_at = clock()
        self._pace_s = 0.0  # usual time between two that leave, while others wait

    def adjust(self, capacity: int, length: int, wait_s: float) -> None:
        """Go by these bounds from now on; who entered stays, and who waits hears of more room when somebody moves."""
        self._capacity, self._length, self._wait_s = capacity, length, wait_s

    def enter_now(self) -> bool:
        """Enter if there is room that nobody waits for."""
        if self._heap:
            self._let_in()
        if self._in_flight >= self._capacity:
            return False
        self._in_flight += 1
        return True

    async def enter(self, flow: Flow, cost: float) -> float:
        """Wait for a turn and return the seconds it took; `QueueFull` when there is no place or no turn in time."""
        if self._waiting[flow.lane] >= self._length:
            raise QueueFull(self._estimate(), waited=False)
        began = self._clock()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (self._tag(flow, cost), next(self._numbers), turn))
        self._waiting[flow.lane] += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turn_of(turn)
        except TimeoutError:
            raise QueueFull(self._estimate(), waited=True) from None
        finally:
            self._waiting[flow.lane] -= 1
            self._drop_the_gone()
        return self._clock() - began

    def leave(self) -> None:
        """Free the place for the one whose turn it is."""
        self._keep_pace()
        self._in_flight -= 1
        if not self._let_in() and not self._heap:
            # Nobody waits: a busy period is over, and nothing of it weighs on the next one.
            self._virtual, self._finish, self._pace_s = 0.0, {}, 0.0

    def _let_in(self) -> bool:
        """Give room to those who wait, in the order of their turns; was there anybody?"""
        found = False
        while self._heap and self._in_flight < self._capacity:
            tag, _, turn = heapq.heappop(self._heap)
            if not turn.done():
                self._virtual = tag
                self._in_flight += 1
                turn.set_result(None)
                found = True
        return found

    def waiting(self, lane: Lane) -> int:
        """Return how many wait in a lane."""
        return self._waiting[lane]

    async def _turn_of(self, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()  # the turn came just as its client left
            raise

    def _drop_the_gone(self) -> None:
        """Bound the memory of who came and left while nobody had a turn."""
        if len(self._heap) > 2 * sum(self._waiting.values()) + MOST_GONE:
            self._heap = [place for place in self._heap if not place[2].done()]
            heapq.heapify(self._heap)

    def _tag(self, flow: Flow, cost: float) -> float:
        if len(self._finish) > MOST_FLOWS:
            self._finish = {key: finish for key, finish in self._finish.items() if finish > self._virtual}
        key = (flow.account, flow.lane)
        start = max(self._virtual, self._finish.get(key, 0.0))
        self._finish[key] = start + cost / flow.share
        return start

    def _keep_pace(self) -> None:
        moment = self._clock()
        if self._heap:
            passed = moment - self._left_at
            self._pace_s = passed if self._pace_s == 0.0 else 0.9 * self._pace_s + 0.1 * passed
        self._left_at = moment

    def _estimate(self) -> float:
        """Return when those who wait now will have had their turns, 1 to 60 seconds."""
        return min(60.0, max(1.0, self._pace_s * (sum(self._waiting.values()) + 1)))
