"""A15: harvest of agentic trajectories. Tools with results from a template, tasks that never recur."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, agent_run
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng = member.rng
    templated = rng.random() < 0.7
    result = rng.choice(("OK. The command ended with status 0.", '{"status": "success"}', "Done.", "No output."))
    longest = rng.randint(3, 14)
    while True:
        steps = rng.randint(2, longest)
        yield from agent_run(member, member.next(), steps, result=result if templated else None)


STRATEGY = Strategy("A15", "agentic trajectory harvest", _asks, (Cell(1, 1_000), Cell(10, 20_000)))
