"""A6: best of n. Each prompt is drawn many times at a temperature near one."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    samples, at_once = member.rng.choice((8, 16, 32)), member.rng.random() < 0.4
    while True:
        item = member.next()
        if at_once:
            output = samples * member.answer_tokens(item)
            yield member.plain(item, output=output, n=samples, temperature=1.0, max_tokens=None)
        else:
            for seed in range(samples):
                yield member.plain(item, temperature=1.0, seed=seed)


STRATEGY = Strategy(
    "A6", "best-of-n sampling", _asks, (Cell(1, 1_000), Cell(1, 20_000)), paces={"window": 0.7, "whole": 0.3}
)
