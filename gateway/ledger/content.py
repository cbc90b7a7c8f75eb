"""The text in a request's or a record's messages, in the shapes that OpenAI's API has for it; nothing but strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text_of(record: Mapping[str, Any]) -> str:
    """Return the text of the last user message, or of the prompt; empty where no text is kept."""
    for message in reversed(_list(record.get("messages"))):
        if isinstance(message, dict) and message.get("role") == "user":
            return content_text(message.get("content"))
    return content_text(record.get("prompt"))


def content_text(content: object) -> str:
    """Return the text of a message's content: a string, or a list of strings and of parts with a `text`."""
    if isinstance(content, str):
        return content
    texts = [part if isinstance(part, str) else _part_text(part) for part in _list(content)]
    return "\n".join(text for text in texts if text)


def _part_text(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
