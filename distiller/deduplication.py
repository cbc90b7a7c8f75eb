"""Exact deduplication of training rows: of the rows whose prompts are equal once normalised, the first stays."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar


class Asked(Protocol):
    """A row with the request that was asked: a chat.completions body with `messages`."""

    @property
    def request(self) -> Mapping[str, Any]:
        """The body."""
        ...


Row = TypeVar("Row", bound=Asked)


def keep_first(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """Return the rows without later repetitions, in their order, and how many were left out."""
    kept: dict[str, Row] = {}
    seen = 0
    for row in rows:
        seen += 1
        kept.setdefault(prompt_key(row.request), row)
    return list(kept.values()), seen - len(kept)


def prompt_key(request: Mapping[str, Any]) -> str:
    """Return a hash of the messages in which case, spacing and Unicode's compatibility forms make no difference."""
    lines = [f"{message.get('role')}\x1f{_text(message.get('content'))}" for message in request["messages"]]
    normal = " ".join(unicodedata.normalize("NFKC", "\x1e".join(lines)).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part)) if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else str(content)
