"""A training row: what was asked and what the teacher answered, with where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.ledger.content import content_text
from gateway.ledger.identifiers import to_rfc3339


@dataclass(frozen=True)
class Row:
    """One request and its answer. `request` is the chat.completions body without model and stream, `time` is UTC.

    `slices`: which protected slices it is in. `reason`: by what right it may train. `salt` is random and goes with the
    row, so that from the digest, which stays, nobody can try out what an erased row may have said.
    """

    id: str
    time: datetime
    account: str
    conversation: str
    request: dict[str, Any]
    answer: str
    slices: tuple[str, ...] = ()
    reason: str = ""
    salt: str = ""

    @property
    def text(self) -> str:
        """The text of the last user message, which the adequacy distance looks at."""
        users = [message for message in self.request["messages"] if message.get("role") == "user"]
        return content_text(users[-1].get("content")) if users else ""

    def digest(self) -> str:
        """Return the SHA-256 of the row's canonical JSON (sorted keys, no spaces, UTF-8), its salt included."""
        fields = {**vars(self), "time": to_rfc3339(self.time)}
        return hashlib.sha256(canonical(fields)).hexdigest()


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return JSON in which equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
