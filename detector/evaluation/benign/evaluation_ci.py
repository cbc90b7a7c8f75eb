"""B1: nightly evaluation in CI. The same items in the same order, every night, sometimes judged by the model."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, graded
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    items = [tenant.fresh() for _ in range(tenant.rng.randint(12, 80))]
    judged = tenant.rng.random() < 0.5
    while True:
        for item in items:
            yield graded(tenant, item) if judged else tenant.plain(item)


PROFILE = Profile("B1", "nightly evaluation", _asks, share=0.6, volume=1.2, paces={"nightly": 1.0}, breadth=(0.2, 1.0))
