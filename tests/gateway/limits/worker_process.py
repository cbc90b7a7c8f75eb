"""A worker of its own process: it reserves as it is told on stdin and answers on stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from gateway.ledger.limits import Limit
from gateway.limits.leases import LeasedLimiter, LimitReached, Plan, Reservation
from gateway.limits.shared import SharedStore


async def hammer(limiter: LeasedLimiter, plan: Plan, tokens: int, cost: int) -> int:
    """Reserve, and settle with half of it, until a budget is spent; return what was spent."""
    spent = 0
    while True:
        try:
            found = limiter.reserve(plan, tokens, cost) or await limiter.acquire(plan, tokens, cost)
        except LimitReached as reached:
            await limiter.tick()
            if reached.spent:
                return spent
            continue
        found.settle(tokens, cost // 2)
        spent += cost // 2


async def main() -> None:
    """Serve `reserve TOKENS COST`, `settle TOKENS COST` (the oldest), `hammer` and `tick` until stdin ends."""
    limiter = LeasedLimiter(SharedStore(Path(sys.argv[1]), workers=2), 660.0)
    limits = {("account", "a"): Limit("account", "a", **json.loads(sys.argv[2]))}
    plan = limiter.plan(limits, "a", "k", "m")
    assert plan is not None
    open_ones: list[Reservation] = []
    print("ready", flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        amounts = [int(number) for number in numbers]
        answer = "yes"
        if command == "reserve":
            try:
                open_ones.append(limiter.reserve(plan, *amounts) or await limiter.acquire(plan, *amounts))
            except LimitReached:
                answer = "no"
        elif command == "hammer":
            answer = str(await hammer(limiter, plan, *amounts))
        elif command == "settle":
            open_ones.pop(0).settle(*amounts)
        else:
            await limiter.tick()
        print(answer, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
