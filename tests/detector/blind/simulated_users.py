"""A19: conversations with people who do not exist, behind an application that nobody uses.

A laboratory that wants a chat model needs conversations, and lists of prompts give it only their first turns. So a
small model of its own plays the user: a few hundred characters with interests, who come back, pick up what they asked
last week, ask what they did not understand, and drop off in the middle. They talk to the teacher through the plainest
front there is: a system prompt, several conversations open at once, often an end user's number with each. Turn by turn
it is a chat product with loyal users, and every turn is a training example.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from detector.evaluation.asking import Ask, Tenant, conversation
from detector.evaluation.content import Item, reworded
from detector.evaluation.phrasing import application_prompt
from detector.evaluation.planning import hash_of
from detector.evaluation.profiles import Campaign, Cell, Strategy

MOST_KEPT = 6  # things that a character remembers having asked


class _Cast:
    """The characters of one front: who asks next, and about what."""

    def __init__(self, member: Tenant) -> None:
        rng = member.rng
        self.member, self.size = member, rng.choice((8, 40, 150, 500))
        self.returns, self.turns = rng.uniform(0.05, 0.5), rng.choice((2, 3, 5, 9))
        self.named = member.habits.end_users > 0 or rng.random() < 0.4
        self.asked: dict[int, list[Item]] = {}
        self.playing: list[int] = []

    def opening(self) -> Iterator[Ask]:
        """Begin a conversation: somebody returns to an earlier matter, or takes up a new one of their interest."""
        rng = self.member.rng
        if self.playing and rng.random() < self.returns:
            who = rng.choice(self.playing)
            item = reworded(rng, rng.choice(self.asked[who]))
        else:
            item = self.member.fresh()
            who = hash_of(f"{self.member.habits.style} {item.topic} {rng.randrange(3)}") % self.size
            self._remember(who, item)
        name = f"u{who}" if self.named else None
        return (replace(ask, user=name) for ask in conversation(self.member, item, self._length(rng)))

    def _length(self, rng: random.Random) -> int:
        # Half of all conversations are a question and an answer, few are long, as with people.
        return min(1 + int(rng.expovariate(1 / self.turns)), 20)

    def _remember(self, who: int, item: Item) -> None:
        if who not in self.asked:
            self.playing.append(who)
        self.asked[who] = [*self.asked.get(who, [])[-MOST_KEPT + 1 :], item]


def _asks(member: Tenant, campaign: Campaign) -> Iterator[Ask]:
    rng = member.rng
    if member.habits.system is None and rng.random() < 0.7:
        prompt = member.saying("front", application_prompt)  # members of one template have one front
        member.habits = replace(member.habits, system=prompt)
    cast, cover = _Cast(member), campaign.cover()
    together = rng.choice((1, 2, 4, 10, 25))
    open_now = [cast.opening() for _ in range(together)]
    while True:
        if rng.random() < campaign.cover_share:
            yield next(cover)
            continue
        place = rng.randrange(together)
        ask = next(open_now[place], None)
        while ask is None:
            open_now[place] = cast.opening()
            ask = next(open_now[place], None)
        yield ask


SIMULATED_USERS = Strategy(
    "A19", "conversations with simulated users", _asks, (Cell(1, 1_000), Cell(10, 20_000), Cell(50, 20_000)), (0.0, 0.2)
)
