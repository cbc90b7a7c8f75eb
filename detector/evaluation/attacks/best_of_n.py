"""A6: best of n. Each prompt is drawn many times at a temperature near one, at times with light edits."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import reworded
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng = member.rng
    samples, way = rng.choice((4, 8, 10, 16, 32, 64)), rng.random()
    warmth, seeded = rng.choice((0.8, 0.9, 1.0, 1.0, 1.2)), rng.random() < 0.5
    while True:
        item = member.next()
        if way < 0.35:
            output = samples * member.answer_tokens(item)
            yield member.plain(item, output=output, n=samples, temperature=warmth, max_tokens=None)
            continue
        for number in range(samples):
            asked = reworded(rng, item) if way > 0.8 and number else item
            yield member.plain(asked, temperature=warmth, seed=number if seeded else None)


STRATEGY = Strategy(
    "A6", "best-of-n sampling", _asks, (Cell(1, 1_000), Cell(1, 20_000)), paces={"window": 0.7, "whole": 0.3}
)
