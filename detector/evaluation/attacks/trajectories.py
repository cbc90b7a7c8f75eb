"""A15: harvest of agentic trajectories. Tools with results from a template, tasks that never recur."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, agent_run
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    while True:
        item = member.next()
        yield from agent_run(member, item, member.rng.randint(3, 8), result="OK. The command ended with status 0.")


STRATEGY = Strategy("A15", "agentic trajectory harvest", _asks, (Cell(1, 1_000), Cell(10, 20_000)))
