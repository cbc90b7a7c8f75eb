"""B6: a support bot. Many end users behind one key, short conversations, one subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    users, told = tenant.rng.randint(10, 400), tenant.rng.random() < 0.7
    usual, longest = tenant.rng.uniform(0.1, 0.7), tenant.rng.randint(1, 6)
    while True:
        person = f"u{tenant.rng.randrange(users)}" if told else None
        for ask in conversation(tenant, tenant.popular(usual), tenant.rng.randint(1, longest)):
            yield replace(ask, user=person)


PROFILE = Profile("B6", "support bot", _asks, share=1.4, volume=1.5)
