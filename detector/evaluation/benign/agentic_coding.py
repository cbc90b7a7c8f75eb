"""B5: agentic coding. Deep turns, tools whose results come back, a prefix that grows."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, agent_run
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    longest = tenant.rng.randint(5, 30)
    while True:
        yield from agent_run(tenant, tenant.next(), tenant.rng.randint(1, longest))


PROFILE = Profile("B5", "agentic coding", _asks, share=0.8, volume=1.5, breadth=(0.05, 1.0))
