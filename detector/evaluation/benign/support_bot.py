"""B6: a support bot. Many end users behind one key, short conversations, one subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    users = tenant.rng.randint(10, 200)
    while True:
        person = f"u{tenant.rng.randrange(users)}"
        for ask in conversation(tenant, tenant.next(), tenant.rng.randint(1, 5)):
            yield replace(ask, user=person)


PROFILE = Profile("B6", "support bot", _asks, share=1.3)
