"""B16: a customer moves to another model. Its old traffic is played again, in bulk, beside its ordinary use."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, labelled
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    labels = tenant.rng.random() < 0.4
    asked = [tenant.fresh() for _ in range(60)]
    while tenant.progress < 0.5:
        item = tenant.rng.choice(asked) if tenant.rng.random() < 0.3 else tenant.fresh()
        if labels:
            yield labelled(tenant, item)
        else:
            yield from conversation(tenant, item, tenant.rng.randint(1, 2))
    while True:
        for item in [*asked, *(tenant.fresh() for _ in range(40))]:
            yield labelled(tenant, item) if labels else tenant.plain(item)


PROFILE = Profile("B16", "model migration", _asks, share=0.5, volume=1.5, grouped=0.5, paces={"whole": 1.0})
