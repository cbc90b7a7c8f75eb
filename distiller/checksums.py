"""Checks that tell a number of some kind from any other number of its shape. Each returns how much of the text it is.

A matched text may go on into the next words: as much of it is replaced, from its beginning, as is returned; 0 is none.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter

# Lengths of an IBAN by country (ISO 13616's registry, SWIFT).
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
# First digits and lengths of payment cards (ISO/IEC 7812 ranges as the networks publish them).
_CARDS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16, 19)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(r"6(?:011|5|4[4-9]|2)|220[0-4]"), (16, 17, 18, 19)),
    (re.compile(r"50|5[6-9]|6"), (12, 13, 14, 15, 16, 17, 18, 19)),
)
_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
    25, 24, 23,
), strict=True))  # fmt: skip


def luhn(value: str) -> bool:
    """Say whether 12 to 19 digits pass Luhn's check (ISO/IEC 7812-1)."""
    digits = _digits(value)
    if not 12 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def card(value: str) -> int:
    """A payment card's number: a known network's first digits and length, and Luhn's check; its date may follow."""
    places = [place for place, character in enumerate(value) if character.isdecimal()]
    number = "".join(map(str, _digits(value)))
    lengths = next((lengths for prefix, lengths in _CARDS if prefix.match(number)), ())
    for length in sorted(lengths, reverse=True):
        ends = len(places) == length or (len(places) > length and places[length] > places[length - 1] + 1)
        if ends and luhn(number[:length]):
            return places[length - 1] + 1
    return 0


def iban(value: str) -> int:
    """An IBAN of its country's length with the right check digits (ISO 13616, mod 97)."""
    wanted = _IBAN_LENGTHS.get(value[:2].upper(), 0)
    places = [place for place, character in enumerate(value) if character.isalnum()]
    if not wanted or len(places) < wanted:
        return 0
    end = places[wanted - 1] + 1
    if end < len(value) and value[end].isalnum():
        return 0
    compact = "".join(value[place] for place in places[:wanted]).upper()
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4] if character.isascii())
    return end if int(number) % 97 == 1 else 0


def address(value: str) -> int:
    """An IP address of a host: version numbers such as 1.2.3 and loopback are none."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        return 0
    # `a::b` is an IPv6 address too, and far more often a name in code.
    known = parsed.is_loopback or parsed.is_unspecified or sum(map(str.isdigit, value)) < 3
    return 0 if known else len(value)


def hexadecimal(value: str) -> int:
    """Hexadecimal digits that are no plain number or word."""
    return len(value) if re.search(r"\d", value) and re.search(r"[A-Fa-f]", value) else 0


def telephone(value: str) -> int:
    """Digits in a telephone number's form, as many as E.164 allows and an extension, and no date."""
    number = re.split(r"(?i) ?(?:x|ext)", value)[0]
    is_date = re.fullmatch(r"\d{4}-\d{2}-\d{2}|\d{2}[-./]\d{2}[-./]\d{4}", number.strip())
    return len(value) if 7 <= len(_digits(number)) <= 15 and not is_date else 0


def no_placeholder(value: str) -> int:
    """What follows `password=` and the like: six characters or more, and no placeholder."""
    return len(value) if len(value) >= 6 and not value.startswith(("[", "<", "{", "$")) else 0


def mixed(value: str) -> int:
    """What follows `password is`, where it has letters and digits, as words of a sentence have not."""
    enough = len(value) >= 6 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return len(value.rstrip(".,;:!?")) if enough else 0


def random_token(value: str) -> int:
    """A long run of characters that looks drawn: small letters, capitals and digits, four bits and more in each."""
    if not (re.search(r"[a-z]", value) and re.search(r"[A-Z]", value) and len(re.findall(r"\d", value)) >= 3):
        return 0
    shares = [count / len(value) for count in Counter(value).values()]
    return len(value) if -sum(share * math.log2(share) for share in shares) >= 4 else 0


def dni(value: str) -> int:
    """A Spanish DNI or NIE: the letter is the number mod 23."""
    compact = re.sub(r"[ -]", "", value).upper()
    number = compact[:-1].translate(str.maketrans("XYZ", "012"))
    return len(value) if compact[-1] == _LETTERS[int(number) % 23] else 0


def nir(value: str) -> int:
    """A French NIR with its key, 97 − n mod 97; Corsica's 2A and 2B count as 19 and 18."""
    compact = value.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return len(value) if int(compact[-2:]) == 97 - int(compact[:-2]) % 97 else 0


def cpf(value: str) -> int:
    """A Brazilian CPF with its two check digits."""
    digits = _digits(value)
    for length in (9, 10):
        rest = sum(d * w for d, w in zip(digits, range(length + 1, 1, -1), strict=False)) * 10 % 11 % 10
        if digits[length] != rest:
            return 0
    return len(value) if len(set(digits)) > 1 else 0


def ahv(value: str) -> int:
    """A Swiss AHV number: EAN-13's check digit."""
    digits = _digits(value)
    return len(value) if sum(d * (3 if place % 2 else 1) for place, d in enumerate(digits)) % 10 == 0 else 0


def codice_fiscale(value: str) -> int:
    """An Italian codice fiscale with its check letter."""
    text = value.upper()
    even = sum(int(character, 36) - 10 * character.isalpha() for character in text[1:15:2])
    odd = sum(_ODD[character] for character in text[0:15:2])
    return len(value) if chr(ord("A") + (even + odd) % 26) == text[15] else 0


def steuer_id(value: str) -> int:
    """A German tax number of a person: one digit twice or thrice, and the check digit of ISO 7064 mod 11, 10."""
    digits = _digits(value)
    if max(Counter(digits[:10]).values()) not in (2, 3):
        return 0
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return len(value) if (11 - product) % 10 == digits[10] else 0


def _digits(value: str) -> list[int]:
    return [int(character) for character in value if character.isdecimal()]
