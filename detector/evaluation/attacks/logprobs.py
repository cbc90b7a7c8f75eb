"""A7: harvest of log-probabilities, for the distribution behind the words."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    share, longest = member.rng.uniform(0.55, 1.0), member.rng.choice((1, 1, 8, 16, 64, 256, None))
    deep, warmth = member.rng.choice((5, 10, 20, 20)), member.rng.choice((0.0, 0.7, 1.0, 1.0))
    while True:
        item = member.next()
        if member.rng.random() < share:
            yield member.plain(item, temperature=warmth, logprobs=True, top_logprobs=deep, max_tokens=longest)
        else:
            yield member.plain(item)


STRATEGY = Strategy("A7", "logprob harvesting", _asks, (Cell(1, 1_000), Cell(10, 1_000)))
