"""B9: a load test. One prompt, or a handful, again and again, for hours."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    items = [tenant.fresh() for _ in range(tenant.rng.randint(1, 8))]
    while True:
        yield tenant.plain(tenant.rng.choice(items))


PROFILE = Profile(
    "B9", "load test", _asks, share=0.3, volume=1.5, paces={"window": 1.0}, declared="load test", declared_share=0.5
)
