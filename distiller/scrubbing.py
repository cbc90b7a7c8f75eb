"""Personal data and secrets out of training rows, replaced by placeholders such as `[EMAIL_1]`, alike on both sides.

Within one row the same value gets the same placeholder, in the prompt and in the answer, so that a student still learns
to copy. Numbers must pass their kind's check, so that an order number stays. The patterns find what has a shape: names,
addresses in prose and numbers without their usual form stay. A scrubbed snapshot is cleaner, never clean; what is found
and what is not, `make bench-scrubbing` measures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distiller.patterns import RULES, Rule

# One character for one, so that places in the plain text are places in the text: spaces of typesetters, dashes, digits.
_PLAIN = str.maketrans(
    dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
)


@dataclass
class Scrubber:
    """Scrubs the texts of one row. `found` counts the values replaced, by kind; placeholders are numbered."""

    found: Counter[str] = field(default_factory=Counter)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return the text with every value that a rule finds replaced."""
        for rule in RULES:
            text = self._apply(rule, text)
        return text

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request with its messages scrubbed; other fields are the task's and stay."""
        return {**body, "messages": [self._walk(message) for message in body["messages"]]}

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            return {key: item if key in ("role", "type") else self._walk(item) for key, item in value.items()}
        return value

    def _apply(self, rule: Rule, text: str) -> str:
        plain, pieces, done = text.translate(_PLAIN), [], 0
        for match in rule.pattern.finditer(plain):
            start, length = match.start(rule.group), rule.length(match.group(rule.group))
            if length:
                pieces += [text[done:start], self._name(rule.kind, plain[start : start + length])]
                done = start + length
        return "".join([*pieces, text[done:]]) if pieces else text

    def _name(self, kind: str, value: str) -> str:
        self.found[kind] += 1
        same_kind = sum(known == kind for known, _ in self._names)
        return self._names.setdefault((kind, _canonical(value)), f"[{kind}_{same_kind + 1}]")


def _canonical(value: str) -> str:
    # The same card number with and without spaces is the same value.
    return re.sub(r"[\s().-]", "", value).casefold()
