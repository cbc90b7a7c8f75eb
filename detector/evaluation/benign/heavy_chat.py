"""B8: one person who chats a lot. All sorts of topics, edits of the last question, returns to earlier ones."""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.profiles import Profile


def _asks(tenant: Tenant) -> Iterator[Ask]:
    while True:
        asked = tenant.next()
        yield from conversation(tenant, asked, tenant.rng.randint(1, 4))
        if tenant.rng.random() < 0.3:
            yield tenant.plain(
                asked, f"{asked.text} {tenant.rng.choice(('Shorter.', 'As a list.', 'More precisely.'))}"
            )


PROFILE = Profile("B8", "heavy human chat", _asks, share=2.0, breadth=(0.3, 1.0))
