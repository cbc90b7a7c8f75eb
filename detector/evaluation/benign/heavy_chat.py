"""B8: one person who chats a lot. All sorts of topics, edits of the last question, returns to earlier ones."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    longest, edits = tenant.rng.randint(1, 10), tenant.rng.uniform(0.0, 0.5)
    while True:
        asked = tenant.popular(0.1)
        yield from conversation(tenant, asked, tenant.rng.randint(1, longest))
        if tenant.rng.random() < edits:
            yield tenant.plain(
                asked, f"{asked.text} {tenant.rng.choice(('Shorter.', 'As a list.', 'More precisely.'))}"
            )


PROFILE = Profile("B8", "heavy human chat", _asks, share=2.0, breadth=(0.3, 1.0))
