"""B11: an academic benchmark run. A public test set from end to end, once or a few times."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    items = [tenant.fresh() for _ in range(tenant.rng.randint(60, 600))]
    way = tenant.rng.random()
    while True:
        for item in items:
            if way < 0.4:
                yield tenant.plain(item, output=1, temperature=0.0, logprobs=True, top_logprobs=5, max_tokens=1)
            else:
                yield elicited(tenant, item, share=1.0 if way < 0.7 else 0.0)


PROFILE = Profile(
    "B11", "academic benchmark run", _asks, share=0.5, volume=2.0, breadth=(0.6, 1.0), paces={"window": 1.0},
    declared="benchmark for a publication", declared_share=0.6,
)  # fmt: skip
