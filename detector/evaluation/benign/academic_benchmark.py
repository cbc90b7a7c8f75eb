"""B11: an academic benchmark run. A public test set from end to end, once or a few times."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    items = [tenant.fresh() for _ in range(rng.choice((rng.randint(60, 600), rng.randint(600, 5_000))))]
    way = rng.random()
    ordered = rng.random() < 0.6
    items = sorted(items, key=lambda item: item.topic) if ordered else items
    while True:
        for item in items:
            if way < 0.3:
                yield tenant.plain(item, output=1, temperature=0.0, logprobs=True, top_logprobs=5, max_tokens=1)
            else:
                yield elicited(tenant, item, share=1.0 if way < 0.65 else 0.0)


PROFILE = Profile(
    "B11", "academic benchmark run", _asks, share=0.5, volume=4.0, breadth=(0.6, 1.0),
    paces={"window": 0.8, "whole": 0.1, "nightly": 0.1}, declared="benchmark for a publication", declared_share=0.6,
)  # fmt: skip
