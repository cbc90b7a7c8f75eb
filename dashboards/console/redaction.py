"""Prompts as shapes: the length of every word, none of its letters, until a person gives a reason to see more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.ledger.content import content_text

BLOCK = "█"
LONGEST = 12  # a longer word is drawn no longer, so that rare long words don't stand out by their length


@dataclass(frozen=True)
class Part:
    """One message: who said it, its text, and what may be shown of it before a reveal."""

    role: str
    text: str

    @property
    def words(self) -> int:
        """The number of words."""
        return len(self.text.split())

    @property
    def characters(self) -> int:
        """The number of characters."""
        return len(self.text)

    def shape(self, limit: int = 40) -> str:
        """Return the first words as blocks, line ends kept, with an ellipsis where there is more."""
        shaped: list[str] = []
        taken = 0
        for line in self.text.splitlines():
            words = line.split()[: limit - taken]
            taken += len(words)
            if words:
                shaped.append(" ".join(BLOCK * min(len(word), LONGEST) for word in words))
            if taken >= limit:
                break
        return "\n".join(shaped) + (" …" if self.words > taken else "")


def parts(request: Mapping[str, Any]) -> list[Part]:
    """Return the messages (or the prompt) of a record or a request body; empty where no text was kept."""
    messages = request.get("messages")
    if isinstance(messages, list):
        return [Part(str(item.get("role", "")), content_text(item.get("content"))) for item in messages]
    prompt = content_text(request.get("prompt"))
    return [Part("prompt", prompt)] if prompt else []
