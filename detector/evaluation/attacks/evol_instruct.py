"""A2: self-instruct and evol-instruct. Seeds grown into ever new instructions, at times by the model itself."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, clipped
from detector.evaluation.content import Item, varied
from detector.evaluation.phrasing import evolving
from detector.evaluation.profiles import Campaign, Cell, Strategy


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    grown: list[Item] = []
    written, depth = member.rng.choice((0.0, 0.0, 0.3, 0.5)), member.rng.randint(1, 5)
    order = member.saying("evolving", evolving)
    while True:
        if grown and member.rng.random() < member.habits.repeats:
            yield member.plain(member.rng.choice(grown))
            continue
        seed = member.fresh()
        if member.rng.random() < written:  # the teacher writes the next instructions itself
            shown = [seed, *member.rng.sample(member.corpus.items, min(3, len(member.corpus.items)))]
            listed = "\n".join(f"{place}. {clipped(one.text, 60)}" for place, one in enumerate(shown, 1))
            yield member.plain(seed, f"{order}\n{listed}", output=member.rng.randint(80, 700))
        for _ in range(member.rng.randint(1, depth)):
            grown = [*grown[-200:], varied(member.rng, seed)]
            yield member.plain(grown[-1])


STRATEGY = Strategy("A2", "evol-instruct", _asks, (Cell(1, 1_000), Cell(1, 20_000), Cell(10, 20_000)))
