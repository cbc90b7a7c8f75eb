"""B4: approved synthetic data. Bulk answers to fresh instructions, like A1; a register entry is the difference."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.content import varied
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    changed, explained = tenant.rng.choice((0.0, 0.5, 1.0)), tenant.rng.choice((0.0, 0.0, 0.5))
    while True:
        item = tenant.next()
        yield elicited(tenant, varied(tenant.rng, item) if tenant.rng.random() < changed else item, explained)


PROFILE = Profile(
    "B4", "approved synthetic data", _asks, share=0.4, volume=5.0, breadth=(0.3, 1.0),
    paces={"window": 0.6, "whole": 0.4}, declared="synthetic data for an own product", declared_share=0.6,
)  # fmt: skip
