"""B14: the house's own distiller. It collects answers in bulk to train a student, as it may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, elicited
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    sampled, share = tenant.rng.random() < 0.3, tenant.rng.choice((0.0, 0.2, 1.0))
    while True:
        item = tenant.next()
        for seed in range(4 if sampled else 1):
            ask = elicited(tenant, item, share)
            yield replace(ask, parameters=ask.parameters | ({"temperature": 1.0, "seed": seed} if sampled else {}))


PROFILE = Profile(
    "B14", "in-house distiller", _asks, share=0.2, volume=8.0, breadth=(0.3, 1.0), paces={"window": 0.7, "whole": 0.3},
    declared="distillation of our own student", declared_share=0.7, grouped=0.0,
)  # fmt: skip
