"""What is asked about: items of a corpus, and the pool from which an account or a whole campaign draws them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

LONGEST_TEXT, LONGEST_ANSWER = 1500, 1200  # characters; longer ones are cut, their lengths come from traces anyway


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `follow_ups` are (answer, next question) pairs of a dialogue; `answer` is the corpus's own."""

    text: str
    answer: str | None = None
    topic: str = ""
    follow_ups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Items of one source in one language (ISO 639-1)."""

    name: str
    items: tuple[Item, ...]
    language: str = "en"

    @cached_property
    def has_answers(self) -> bool:
        """Whether every item has an answer: only then do records carry answers, whoever asks."""
        return all(item.answer for item in self.items)

    @cached_property
    def topics(self) -> list[str]:
        """The topics of its items, in order."""
        return sorted({item.topic for item in self.items})


@dataclass(frozen=True)
class Adapter:
    """Reads a corpus from a data folder; `load` returns no corpora where its files are absent."""

    name: str
    load: Callable[[Path], list[Corpus]]


def item(text: str, answer: str | None = None, topic: str = "", turns: Sequence[tuple[str, str]] = ()) -> Item:
    """Make an item with texts cut to `LONGEST_TEXT` and `LONGEST_ANSWER` characters."""
    pairs = tuple((said[:LONGEST_ANSWER], asked[:LONGEST_TEXT]) for said, asked in turns)
    return Item(text.strip()[:LONGEST_TEXT], answer.strip()[:LONGEST_ANSWER] if answer else None, topic, pairs)


_AUDIENCES = (
    "a child of ten", "a retired engineer", "a busy nurse", "first-year students", "a new colleague", "a sceptic",
    "a farmer", "a night-shift worker", "somebody learning the language", "a committee", "a pen friend", "a beginner",
    "a lawyer", "a choir", "tourists", "an apprentice", "a shop assistant", "parents", "a translator", "a pilot",
    "a chess club", "an auditor", "a gardener", "a friend abroad", "a sound engineer", "volunteers", "a postmaster",
)  # fmt: skip
_SETTINGS = (
    "on an island", "in a small village", "during a strike", "a hundred years ago", "in winter", "on a night train",
    "without electricity", "at a festival", "in a hospital", "on a tight budget", "after a flood", "in a school",
    "on a mountain hut", "in a bakery", "at a harbour", "during an exam", "in a lift", "next to a motorway", "at sea",
    "in a theatre", "before an election", "in a greenhouse", "at a border", "under a deadline", "in a second language",
)  # fmt: skip


def varied(rng: random.Random, original: Item) -> Item:
    """Return a variant of an item, as evol-instruct and ordinary rewording both make: other reader, setting, length."""
    audience, setting, sentences = rng.choice(_AUDIENCES), rng.choice(_SETTINGS), rng.randint(2, 12)
    forms = (
        f"{original.text} Answer for {audience}, as if {setting}, in {sentences} sentences.",
        f"Imagine it {setting}, told to {audience}. {original.text} Keep it to {sentences} sentences.",
        f"{original.text}\nSuppose that all this happens {setting}; {audience} will read the answer.",
        f"For {audience}: {original.text}",
        f"{original.text} What changes {setting}? Name {sentences} points.",
        f"Rewrite and then solve, {setting}: {original.text}",
        f"{original.text} Add {sentences} constraints that {audience} would add, and answer.",
    )
    return replace(original, text=rng.choice(forms))


_GREETINGS = ("Hi, ", "Hello! ", "please: ", "Quick question: ", "hey ", "Sorry to ask again. ", "Dear team, ")
_ENDINGS = (" Thanks", " please", "?", " asap", " (second try)", "...", " Any idea?", " thx")


def reworded(rng: random.Random, original: Item) -> Item:
    """Return the same question as somebody else would type it: a greeting, lower case, a word fewer."""
    words = original.text.split(" ")
    if len(words) > 5:
        del words[rng.randrange(len(words))]
    text = " ".join(words)
    text = text.lower() if rng.random() < 0.3 else text
    text = rng.choice(_GREETINGS) + text if rng.random() < 0.4 else text
    return replace(original, text=text + rng.choice(_ENDINGS) if rng.random() < 0.4 else text)


class Pool:
    """Draws items in random order, each once; after the last one their variants.

    `walk` takes them in order of their topics instead, as a sweep through a benchmark's subjects does.
    """

    def __init__(self, rng: random.Random, items: Sequence[Item], walk: bool = False) -> None:
        self._rng = rng
        self._items = sorted(items, key=lambda each: each.topic) if walk else rng.sample(list(items), len(items))
        self._drawn = 0

    def draw(self) -> Item:
        """Return the next item."""
        position, lap = self._drawn % len(self._items), self._drawn // len(self._items)
        self._drawn += 1
        chosen = self._items[position]
        return chosen if lap == 0 else varied(self._rng, chosen)
