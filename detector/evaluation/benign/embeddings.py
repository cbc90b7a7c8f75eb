"""B10: an embeddings job. Texts that never recur, no answers at all."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    while True:
        text = tenant.next().text
        yield Ask([{"role": "user", "content": text}], 0, endpoint="embeddings")


PROFILE = Profile("B10", "embeddings job", _asks, share=0.6, volume=3.0, breadth=(0.1, 1.0))
