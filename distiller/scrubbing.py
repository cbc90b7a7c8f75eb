"""Personal data and secrets out of training rows, replaced by placeholders such as `[EMAIL_1]`, alike on both sides.

Within one row the same value gets the same placeholder, in the prompt and in the answer, so that a student still learns
to copy. Card numbers must pass Luhn's check (ISO/IEC 7812-1), IBANs theirs (ISO 13616, mod 97); what fails stays,
because an order number is no secret. The patterns find what has a shape: names, addresses in prose and numbers without
their usual form stay. A scrubbed snapshot is cleaner, never clean.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One kind of value: its placeholder's name, its shape, and a check that the shape alone does not settle."""

    kind: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = lambda value: True
    group: int = 0  # the part that is replaced


def luhn(value: str) -> bool:
    """Say whether 13 to 19 digits pass Luhn's check."""
    digits = [int(character) for character in value if character.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(value: str) -> bool:
    """Say whether an IBAN's check digits are right."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if not 15 <= len(compact) <= 34:
        return False
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return int(number) % 97 == 1


def address(value: str) -> bool:
    """Say whether the text is an IP address of a host: version numbers such as 1.2.3 and loopback are none."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        return False
    # `a::b` is an IPv6 address too, and far more often a name in code.
    return not (parsed.is_loopback or parsed.is_unspecified) and sum(map(str.isdigit, value)) >= 3


def telephone(value: str) -> bool:
    """Say whether digits in a telephone number's form are as many as E.164 allows, and no date."""
    digits = sum(character.isdigit() for character in value)
    return 7 <= digits <= 15 and not re.fullmatch(r"\d{4}-\d{2}-\d{2}|\d{2}[-./]\d{2}[-./]\d{4}", value.strip())


def high_entropy(value: str) -> bool:
    """Say whether a value after `password=` and the like looks generated rather than like a word or a placeholder."""
    return len(value) >= 6 and not value.startswith(("[", "<", "{", "$"))


_PHONE = (
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}"  # international
    r"|\(0?\d{2,5}\)[ .\-/]?\d{3,5}(?:[ .\-/]?\d{2,5}){0,3}"  # area code in brackets
    r"|\d{3}[ .\-]\d{3}[ .\-]\d{4}"  # North American
    r"|0\d{1,4}(?:[ .\-/]\d{2,8}){1,5}"  # national with its leading zero
    r"|0\d{9,10}"
    r")(?![\w-])"
)
_KEYS = "|".join(
    (
        r"sk-[A-Za-z0-9_-]{16,}",
        r"gh[pousr]_[A-Za-z0-9]{30,}",
        r"github_pat_[A-Za-z0-9_]{30,}",
        r"glpat-[A-Za-z0-9_-]{20,}",
        r"(?:AKIA|ASIA)[A-Z0-9]{16}",
        r"AIza[A-Za-z0-9_-]{30,}",
        r"xox[abprs]-[A-Za-z0-9-]{10,}",
        r"hf_[A-Za-z0-9]{30,}",
        r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
        r"npm_[A-Za-z0-9]{36}",
        r"pypi-[A-Za-z0-9_-]{40,}",
        r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    )
)
_ASSIGNED = (
    r"(?i)\b(?:api[_ -]?key|secret(?:[_ -]key)?|access[_ -]?token|auth[_ -]?token|token|passw(?:or)?d|passphrase|pwd)"
    r"\b(?:\s+is)?\s*[:=]\s*[\"']?([^\s\"',;]+)"
)

# In this order: what holds another kind inside it comes first (a URL's password looks like a mail address).
RULES = (
    Rule("SECRET", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)),
    Rule("URL", re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s/:@]{1,128}:[^\s/@]{1,128}@[^\s<>\"')\]]+")),
    Rule("SECRET", re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEYS})")),
    Rule("SECRET", re.compile(r"(?i)\bbearer\s+([A-Za-z0-9._~+/-]{16,}=*)"), group=1),
    Rule("SECRET", re.compile(_ASSIGNED), high_entropy, group=1),
    Rule("EMAIL", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}\b")),
    Rule("IBAN", re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b"), iban),
    Rule("CARD", re.compile(r"(?<![\d.+-])\d(?:[ -]?\d){12,18}(?![\d-])"), luhn),
    Rule("IP", re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)"), address),
    Rule("IP", re.compile(r"(?<![\w.:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"), address),
    Rule("PHONE", re.compile(_PHONE), telephone),
)


@dataclass
class Scrubber:
    """Scrubs the texts of one row. `found` counts the values replaced, by kind; placeholders are numbered."""

    found: Counter[str] = field(default_factory=Counter)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return the text with every value that a rule finds replaced."""
        for rule in RULES:
            text = rule.pattern.sub(partial(self._replace, rule), text)
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

    def _replace(self, rule: Rule, match: re.Match[str]) -> str:
        value: str = match.group(rule.group)
        if not rule.check(value):
            return match.group()
        self.found[rule.kind] += 1
        same_kind = sum(kind == rule.kind for kind, _ in self._names)
        name = self._names.setdefault((rule.kind, _canonical(value)), f"[{rule.kind}_{same_kind + 1}]")
        start, end = match.start(rule.group) - match.start(), match.end(rule.group) - match.start()
        whole = match.group()
        return whole[:start] + name + whole[end:]


def _canonical(value: str) -> str:
    # The same card number with and without spaces is the same value.
    return re.sub(r"[\s().-]", "", value).casefold()
