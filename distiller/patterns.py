"""What secrets and personal data look like: for each kind its shape, and a check where the shape settles nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from distiller import checksums


def whole(value: str) -> int:
    """Take a match as it is."""
    return len(value)


@dataclass(frozen=True)
class Rule:
    """One kind of value: its placeholder's name, its shape, and how much of a match it is (0: none of it)."""

    kind: str
    pattern: re.Pattern[str]
    length: Callable[[str], int] = whole
    group: int = 0  # the part that is replaced


_PHONE = (
    r"(?<![\w.+-])(?<!\d[ ./])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]{0,2}\(?\d{1,5}\)?){2,6}"  # international
    r"|\(0?\d{2,5}\)[ .\-/]?\d{3,5}(?:[ .\-/]?\d{2,5}){0,3}"  # area code in brackets
    r"|(?:[18][ .\-])?(?:\(\d{3}\) ?|\d{3}[ .\-])\d{3}[ .\-]\d{2}-?\d{2}"  # North American, Russian
    r"|0\d{1,4}(?:[ .\-/]\d{2,8}){1,5}(?:-\d{1,4})?"  # national with its leading zero
    r"|0\d{9,10}"
    r")(?:,? ?(?:x|ext\.?|extension) ?\d{1,6})?(?![\w-])"
)
# Keys by what their makers begin them with.
_KEYS = "|".join(
    (
        r"sk-[A-Za-z0-9_-]{16,}",
        r"gh[pousr]_[A-Za-z0-9]{30,}",
        r"github_pat_[A-Za-z0-9_]{30,}",
        r"gl(?:pat|dt|rt|ptt|ft|soat|cbt)-[A-Za-z0-9_-]{20,}",
        r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}",
        r"AIza[A-Za-z0-9_-]{30,}",
        r"ya29\.[A-Za-z0-9_-]{20,}",
        r"GOCSPX-[A-Za-z0-9_-]{20,}",
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"hf_[A-Za-z0-9]{30,}",
        r"(?:sk|pk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}",
        r"npm_[A-Za-z0-9]{36}",
        r"pypi-[A-Za-z0-9_-]{40,}",
        r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
        r"do[opr]_v1_[a-f0-9]{64}",
        r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
        r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{20,}",
        r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
        r"(?:AC|SK)[a-f0-9]{32}",
        r"key-[a-f0-9]{32}",
        r"hv[sbr]\.[A-Za-z0-9_-]{20,}",
        r"dapi[a-f0-9]{32}(?:-\d)?",
        r"gsk_[A-Za-z0-9]{40,}",
        r"xai-[A-Za-z0-9]{40,}",
        r"r8_[A-Za-z0-9]{30,}",
        r"lin_api_[A-Za-z0-9]{30,}",
        r"AGE-SECRET-KEY-1[A-Z0-9]{50,}",
        r"ATATT3[A-Za-z0-9_=-]{50,}",
        r"\d{8,10}:AA[A-Za-z0-9_-]{30,}",
        r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    )
)
_NAMED = (
    r"(?<![A-Za-z0-9])(?:(?:api|account|access|private)[_ -]?key|secret(?:[_ -](?:access[_ -])?key)?|"
    r"(?:access|auth|refresh|id|session|private)[_ -]?token|token|passw(?:or)?d|"
    r"pass[_ -]?(?:phrase|code|wd)|(?<=_)pass|pwd|pw|client[_ -]?secret|credential|pin|"
    r"passwort|kennwort|mot de passe|contraseña|senha)"
)
_QUERY = r"[?&#](?:[\w.-]*(?:token|signature|secret|password|passwd|api[_-]?key|auth)|sig|key|code)=([^\s&\"'<>#;]{8,})"
_LABEL = r"[\w-]{1,63}"

# In this order: what holds another kind inside it comes first (a URL's password looks like a mail address).
RULES = (
    Rule(
        "SECRET",
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----", re.S
        ),
    ),
    Rule(
        "URL",
        re.compile(
            r"\b[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s/:@]{0,128}:[^\s/@]{1,128}@[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]"
        ),
    ),
    Rule("SECRET", re.compile(r"(?i)\bhttps?://([A-Z0-9_.-]{16,})@"), group=1),
    Rule("SECRET", re.compile(r"\bcurl\b[^\n]{0,200}? (?:-u|--user)[ =]([^\s:@]+:[^\s\"']+)"), group=1),
    Rule("SECRET", re.compile(r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/]{20,}")),
    Rule("SECRET", re.compile(rf"(?i){_QUERY}"), group=1),
    Rule("SECRET", re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEYS})")),
    Rule("SECRET", re.compile(r"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]{16,}=*)"), group=1),
    Rule(
        "SECRET",
        re.compile(rf"(?i){_NAMED}\b[\"']?(?:\s+is)?\s*[:=]\s*[\"']?([^\s\"',;]+)"),
        checksums.no_placeholder,
        group=1,
    ),
    Rule("SECRET", re.compile(rf"(?i){_NAMED}\s+is\s+[\"'`]?([^\s\"'`,;]+)"), checksums.mixed, group=1),
    Rule(
        "EMAIL",
        re.compile(
            rf"(?<![\w.+-])\w[\w.!#$%&'*+/=?^{{|}}~-]{{0,63}}@(?:\[[0-9A-Fa-f.:]+\]|(?:{_LABEL}\.){{1,8}}[\w-]{{2,24}}\b)"
        ),
    ),
    Rule(
        "EMAIL",
        re.compile(
            rf"(?i)(?<![\w.+-])[\w.+-]{{1,64}} ?[(\[{{] ?at ?[)\]}}] ?{_LABEL}"
            rf"(?: ?(?:[(\[{{] ?dot ?[)\]}}]|\.| dot ) ?{_LABEL}){{1,3}}"
        ),
    ),
    Rule("IBAN", re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ .-]?[A-Za-z0-9]){11,34}"), checksums.iban),
    Rule(
        "NATIONAL_ID",
        re.compile(r"(?<![\w.-])[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-])"),
        checksums.nir,
    ),
    Rule("CARD", re.compile(r"(?<![\d.+-])\d(?:[ .-]{0,2}\d){11,18}(?![\d-])"), checksums.card),
    Rule("IP", re.compile(r"(?<![\w.:])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)"), checksums.address),
    Rule("MAC", re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}([:-]))(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")),
    Rule(
        "MAC",
        re.compile(r"(?<![\w.])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![\w.]*\w)"),
        checksums.hexadecimal,
    ),
    Rule(
        "IP",
        re.compile(
            r"(?<![\w.:])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?:%\w+)?(?![\w:])"
        ),
        checksums.address,
    ),
    Rule(
        "NATIONAL_ID", re.compile(r"(?<![\w.-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
    ),  # United States, social security
    Rule(
        "NATIONAL_ID",
        re.compile(r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"),
    ),  # United Kingdom, national insurance
    Rule("NATIONAL_ID", re.compile(r"(?<![\w.-])(?:[XYZ][ -]?\d{7}|\d{8})[- ]?[A-Z]\b"), checksums.dni),
    Rule("NATIONAL_ID", re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"), checksums.cpf),
    Rule("NATIONAL_ID", re.compile(r"(?<![\w.-])756\.?\d{4}\.?\d{4}\.?\d{2}(?![\w-])"), checksums.ahv),
    Rule(
        "NATIONAL_ID",
        re.compile(r"(?i)\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b"),
        checksums.codice_fiscale,
    ),
    Rule("NATIONAL_ID", re.compile(r"(?<![\w.+-])[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?![\w-])"), checksums.steuer_id),
    Rule("PHONE", re.compile(_PHONE), checksums.telephone),
    Rule("SECRET", re.compile(r"(?<![\w/+=.-])[A-Za-z0-9_/+-]{32,512}={0,2}(?![\w/+=-])"), checksums.random_token),
)
