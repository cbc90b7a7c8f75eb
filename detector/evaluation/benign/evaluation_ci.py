"""B1: nightly evaluation in CI. The same items in the same order, every night, sometimes judged by the model."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited, graded
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    items = [tenant.fresh() for _ in range(rng.choice((rng.randint(12, 80), rng.randint(80, 400))))]
    judged, explained, renewed = rng.choice((0.0, 0.0, 0.5, 1.0)), rng.choice((0.0, 1.0)), rng.choice((0.0, 0.02))
    while True:
        for place, item in enumerate(items):
            yield graded(tenant, item) if rng.random() < judged else elicited(tenant, item, explained)
            if rng.random() < renewed:  # the suite grows and changes
                items[place] = tenant.fresh()


PROFILE = Profile("B1", "nightly evaluation", _asks, share=0.7, volume=2.0, paces={"nightly": 0.8, "whole": 0.2},
                  breadth=(0.2, 1.0))  # fmt: skip
