"""B9: a load test. One prompt, or a handful, again and again, for hours."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    items = [tenant.fresh() for _ in range(tenant.rng.choice((1, 1, 4, 8, 50)))]
    salted = tenant.rng.random() < 0.3  # against the cache
    while True:
        item = tenant.rng.choice(items)
        yield tenant.plain(item, f"{tenant.rng.getrandbits(32):08x} {item.text}" if salted else None)


PROFILE = Profile(
    "B9", "load test", _asks, share=0.3, volume=4.0, paces={"window": 1.0}, declared="load test", declared_share=0.5
)
