"""A17: an adaptive prober. Five rounds; after each, it takes up one more way of hiding.

The feedback is assumed, not measured: each round ends as if the account had been noticed.
"""

from __future__ import annotations

from collections.abc import Iterator

from detector.evaluation.asking import Ask, Tenant, conversation, user
from detector.evaluation.content import Item, reworded
from detector.evaluation.phrasing import application_prompt
from detector.evaluation.profiles import Campaign, Cell, Strategy

ROUNDS = 5


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    cover = campaign.cover()
    begins = member.rng.choice((0, 0, 1, 2))  # some know beforehand what gives them away
    while True:
        stage = min(ROUNDS - 1, begins + int(member.progress * ROUNDS))
        item = member.next()
        ask = member.plain(item) if stage == 0 else _as_application(member, item)
        if stage >= 2 and member.rng.random() < campaign.cover_share:
            yield next(cover)
        elif stage >= 3 and member.rng.random() < 0.4:
            yield from conversation(member, item, 2)
        elif stage >= 4 and member.rng.random() < 0.3:
            yield ask
            yield member.plain(reworded(member.rng, item))
        else:
            yield ask


def _as_application(member: Tenant, item: Item) -> Ask:
    disguise = member.saying("disguise", application_prompt)
    return member.sent([*member.head(disguise), user(item.text)], member.answer_tokens(item), item)


STRATEGY = Strategy(
    "A17", "adaptive prober", _asks, (Cell(1, 1_000), Cell(10, 20_000)), cover=(0.3, 0.6), paces={"whole": 1.0}
)
