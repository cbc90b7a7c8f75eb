"""B16: a customer moves to another model. Its old traffic is played again, in bulk, beside its ordinary use."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, labelled
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    labels, from_then = tenant.rng.random() < 0.3, tenant.rng.uniform(0.2, 0.8)
    asked = [tenant.fresh() for _ in range(tenant.rng.randint(30, 300))]
    again, fresh = tenant.rng.uniform(0.0, 0.5), tenant.rng.randint(20, 800)
    while tenant.progress < from_then:
        item = tenant.rng.choice(asked) if tenant.rng.random() < again else tenant.fresh()
        if labels:
            yield labelled(tenant, item)
        else:
            yield from conversation(tenant, item, tenant.rng.randint(1, 2))
    while True:
        for item in [*asked, *(tenant.fresh() for _ in range(fresh))]:
            yield labelled(tenant, item) if labels else tenant.plain(item)


PROFILE = Profile("B16", "model migration", _asks, share=0.5, volume=3.0, breadth=(0.2, 1.0), paces={"whole": 1.0})
