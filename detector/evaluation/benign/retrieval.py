"""B3: retrieval-augmented answers. Blocks of a corpus recur, the input is far longer than the answer."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, filler, with_context
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    rng = tenant.rng
    blocks = [filler(tenant, rng.randint(40, 160)) for _ in range(rng.choice((8, 20, 40, 200)))]
    asked, most, grows = rng.uniform(0.0, 0.5), rng.randint(1, 6), rng.choice((0.0, 0.0, 0.1))
    while True:
        if rng.random() < grows:  # new documents come in
            blocks[rng.randrange(len(blocks))] = filler(tenant, rng.randint(40, 160))
        yield with_context(tenant, tenant.popular(asked), rng.sample(blocks, rng.randint(1, most)))


PROFILE = Profile("B3", "RAG", _asks, share=1.4, volume=1.5, breadth=(0.02, 0.8))
