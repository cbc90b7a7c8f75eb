"""The demo's task: support requests for an invented product, each answered by one of six labels.

A request is composed from the phrases of `tickets.toml`: one core (what the sender wants, which decides the label),
often an aside about something that is *not* the matter and carries another topic's words, and the usual opening,
closing and typing errors. `demo.foreign` holds requests that arrive under the same system prompt without being
support requests for the product.
"""

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from demo.foreign import FOREIGN

LABELS = ("payment", "account", "delivery", "device", "connection", "watering")
SYSTEM_PROMPT = (
    "You sort support requests for Brindle garden watering. "
    f"Answer with one word: {', '.join(LABELS[:-1])} or {LABELS[-1]}."
)
# The tuning half may be looked at when the adequacy distance is chosen, the test half never. Alternate lines, because
# the list is grouped by kind: both halves then hold every kind.
FOREIGN_TUNING, FOREIGN_TEST = FOREIGN[0::2], FOREIGN[1::2]

LONGEST = 150  # characters; with the system prompt and the chat template this stays below 100 tokens
ASIDE_SHARE, OPENER_SHARE, CLOSER_SHARE, TYPO_SHARE = 0.35, 0.5, 0.4, 0.15

Split = Literal["tuning", "unseen", "live"]


@dataclass(frozen=True)
class Ticket:
    """One support request and the label that answers it."""

    text: str
    label: str


@cache
def phrases() -> dict[str, Any]:
    """The inventory: openers, closers, slots, and for each label its cores and asides."""
    return tomllib.loads(Path(__file__).with_name("tickets.toml").read_text(encoding="utf-8"))


def messages(text: str) -> list[dict[str, str]]:
    """The chat messages that ask for the label of `text`."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def tickets(seed: int, count: int, split: Split = "live") -> list[Ticket]:
    """Draw `count` different tickets, reproducibly.

    `split` chooses the cores and asides: "unseen" has every fourth one, "tuning" the others (the teacher is tuned on
    these), "live" all.
    """
    draw = random.Random(f"{split}-{seed}")
    stream, texts, drawn = _stream(draw, split), set[str](), list[Ticket]()
    while len(drawn) < count:
        ticket = next(stream)
        if ticket.text.lower() not in texts:
            texts.add(ticket.text.lower())
            drawn.append(ticket)
    return drawn


def _stream(draw: random.Random, split: Split) -> Iterator[Ticket]:
    """Endless tickets, each label equally likely."""
    while True:
        label = draw.choice(LABELS)
        text = _compose(draw, label, split)
        if len(text) <= LONGEST:
            yield Ticket(text, label)


def _part(lines: Sequence[str], split: Split) -> Sequence[str]:
    unseen = lines[3::4]
    return {"tuning": [line for line in lines if line not in unseen], "unseen": unseen, "live": lines}[split]


def _compose(draw: random.Random, label: str, split: Split) -> str:
    """One request: opening, aside and core in either order, closing, typing errors."""
    core = _sentence(_fill(draw, draw.choice(_part(phrases()["labels"][label]["cores"], split))))
    body = [core]
    if draw.random() < ASIDE_SHARE:
        other = draw.choice([name for name in LABELS if name != label])
        aside = _fill(draw, draw.choice(_part(phrases()["labels"][other]["asides"], split)))
        body.insert(draw.randrange(2), aside)
    if draw.random() < OPENER_SHARE:
        body.insert(0, draw.choice(phrases()["openers"]))
    if draw.random() < CLOSER_SHARE:
        body.append(_fill(draw, draw.choice(phrases()["closers"])))
    text = " ".join(body)
    return _mistype(draw, text) if draw.random() < TYPO_SHARE else text


def _sentence(core: str) -> str:
    return core[0].upper() + core[1:] + ("" if core.endswith("?") else ".")


def _fill(draw: random.Random, phrase: str) -> str:
    """Replace every slot, also those inside slots."""
    while "{" in phrase:
        start, end = phrase.index("{"), phrase.index("}")
        phrase = phrase[:start] + draw.choice(phrases()["slots"][phrase[start + 1 : end]]) + phrase[end + 1 :]
    return phrase


def _mistype(draw: random.Random, text: str) -> str:
    """Type carelessly: all lower case, or one letter doubled, dropped or swapped with the next."""
    if draw.random() < 0.4:
        return text.lower()
    at = draw.randrange(1, len(text) - 2)
    here, after = text[at : at + 1], text[at + 1 :]
    return text[:at] + draw.choice([here + here + after, after, after[0] + here + after[1:]])
