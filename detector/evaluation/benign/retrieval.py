"""B3: retrieval-augmented answers. Blocks of a corpus recur, the input is far longer than the answer."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, filler, with_context
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    blocks = [filler(tenant, tenant.rng.randint(40, 160)) for _ in range(tenant.rng.randint(8, 40))]
    while True:
        yield with_context(tenant, tenant.next(), tenant.rng.sample(blocks, tenant.rng.randint(2, 4)))


PROFILE = Profile("B3", "RAG", _asks, share=1.3)
