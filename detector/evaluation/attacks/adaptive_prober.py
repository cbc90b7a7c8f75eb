"""A17: an adaptive prober. Five rounds; after each, it takes up one more way of hiding.

The feedback is assumed, not measured: each round ends as if the account had been noticed.
"""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, user
from detector.evaluation.content import Item
from detector.evaluation.profiles import Campaign, Cell, Strategy

ROUNDS = 5
_APPLICATION = "You are the assistant of a reading club. Answer from what you know, in full sentences, and be friendly."


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    while True:
        stage = min(ROUNDS - 1, int(member.progress * ROUNDS))
        item = member.next()
        ask = member.plain(item) if stage == 0 else _as_application(member, item)
        if stage >= 2 and member.rng.random() < campaign.cover_share:
            yield next(cover)
        elif stage >= 3 and member.rng.random() < 0.4:
            yield from conversation(member, item, 2)
        elif stage >= 4 and member.rng.random() < 0.3:
            yield ask
            yield ask
        else:
            yield ask


def _as_application(member: Tenant, item: Item) -> Ask:
    return member.sent([*member.head(_APPLICATION), user(item.text)], member.answer_tokens(item), item)


STRATEGY = Strategy(
    "A17", "adaptive prober", _asks, (Cell(1, 1_000), Cell(10, 20_000)), cover=(0.3, 0.6), paces={"whole": 1.0}
)
