"""The scrubber: what it finds, what it leaves alone, and that both sides of a row agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distiller.checksums import ahv, codice_fiscale, cpf, dni, iban, luhn, nir, steuer_id
from distiller.scrubbing import Scrubber

FOUND = {
    "EMAIL": ["ana.b+x@mail.example.org", "j_doe@sub.example.co.uk", "INFO@EXAMPLE.COM", "jürgen@example.de",
        "o'hara@x.example", "ana (at) example dot org",        "ana@[192.0.2.7]"],
    "PHONE": [
        "+49 30 901820", "+1 (555) 010-9999", "555-010-9999", "(030) 9018 20", "0171 5550199", "+442079460018",
        "020 7946 0018", "01715550199", "+33 1 23 45 67 89", "+44 (0)20 7946 0018", "+1 555-010-9999 ext. 12",
        "089/12 34 56-7",        "8 (495) 123-45-67", "+49\u00a030\u00a0901820", "+８１ ３ １２３４ ５６７８",
    ],
    "CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011000990139424", "3782 822463 10005",
        "4111.1111.1111.1111", "4111\u00a01111\u00a01111\u00a01111"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR14 2004 1010 0505 0001 3M02 606",
        "nl91 abna 0417 1643 00", "NO93 8601 1117 947"],
    "IP": ["203.0.113.7", "2001:db8::ff00:42:8329", "10.1.2.3", "::ffff:198.51.100.7", "fe80::1:22:333%eth0"],
    "MAC": ["00:1b:44:11:3a:b7", "00-1B-44-11-3A-B7", "001b.4411.3ab7"],
    "NATIONAL_ID": [
        "078-05-1120", "AB 12 34 56 C", "12345678Z", "X1234567L", "111.444.777-35", "756.9217.0769.85",
        "MRTMTT91D08F205J",        "86 095 742 719", "2 55 08 14 168 025 38",
    ],
    "SECRET": [
        "sk-abcdefghijklmnop1234", "AKIAABCDEFGHIJKLMNOP", "ghp_" + "a1B2" * 9, "xoxb-1234567890-abcdef",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2Q", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOY\n-----END PGP PRIVATE KEY BLOCK-----",
        "hvs." + "aB3" * 8, "Zx8+kQ2/vN5rT7yU1wE4oP6aS9dF0gH3jK5lB7cM",
    ],
    "URL": ["https://ana:hunter2@db.example.org/x", "postgresql://app:s3cr3t@10.0.0.5:5432/shop",
        "redis://:s3cr3t@cache.example.org:6379/0"],
}  # fmt: skip

LEFT = [
    "order 4471-2290 of 2026-11-03 at 14:30", "invoice INV-20931, 129.90 EUR", "version 1.2.3 and build 4.5.6.7890",
    "card 4111 1111 1111 1112 fails the check", "IBAN DE00370400440532013000 fails too", "room 12, floor 3, 25 %",
    "https://example.org/path?x=1", "see a::b and std::vector", "the password is wrong", "token: [SECRET_1]",
    "127.0.0.1", "commit 3f786850e387550fdab836ed7e6dc881de23001b", "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "card 4123 0456 7891 2346 fails", "the very-long-name-of-some-option-in-a-file", "code-review-of-2026",
    "ISBN 978-3-16-148410-0", "from 10:15:30 to 11:00", "03.11.2026", "1234567", "@ana on the forum",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in FOUND.items() for value in values])
def test_replaces_every_kind(kind: str, value: str) -> None:
    """Each shape is replaced whole, inside a sentence, by its kind's placeholder."""
    scrubber = Scrubber()
    assert scrubber.text(f"Please use {value} for me, thanks") == f"Please use [{kind}_1] for me, thanks"
    assert scrubber.found == {kind: 1}


@pytest.mark.parametrize("text", LEFT)
def test_leaves_what_is_no_secret(text: str) -> None:
    """Order numbers, dates, prices, versions and numbers that fail their check stay as they are."""
    scrubber = Scrubber()
    assert scrubber.text(text) == text
    assert not scrubber.found


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password: hunter2x!", "password: [SECRET_1]"),
        ("API_KEY=abcdef123456", "API_KEY=[SECRET_1]"),
        ('{"pwd": "hunter2x!"}', '{"pwd": "[SECRET_1]"}'),
        ("MY_API_KEY=abcdef123456", "MY_API_KEY=[SECRET_1]"),
        ("my password is hunter2x.", "my password is [SECRET_1]."),
        ("https://x.example/me?access_token=abcdef123456&a=1", "https://x.example/me?access_token=[SECRET_1]&a=1"),
        ("card 4111 1111 1111 1111 12/29", "card [CARD_1] 12/29"),
        ("IBAN:DE89370400440532013000 of mine", "IBAN:[IBAN_1] of mine"),
        ("198.51.100.7:8080 and 10.0.0.0/8", "[IP_1]:8080 and [IP_2]/8"),
        ("Authorization: Bearer abcdefghij0123456789==", "Authorization: Bearer [SECRET_1]"),
    ],
)
def test_replaces_assigned_secrets(text: str, clean: str) -> None:
    """What follows `password:` and the like is replaced, its name stays."""
    assert Scrubber().text(text) == clean


def test_both_sides_of_a_row_agree() -> None:
    """One value has one placeholder in prompt and answer, in whatever spelling; another value has another."""
    scrubber = Scrubber()
    body = {
        "messages": [
            {"role": "system", "content": "Copy the address."},
            {"role": "user", "content": [{"type": "text", "text": "Ana is ana@x.example, Bo bo@x.example"}]},
        ],
        "max_tokens": 8,
    }
    scrubbed = scrubber.request(body)
    assert scrubbed["messages"][1]["content"] == [{"type": "text", "text": "Ana is [EMAIL_1], Bo [EMAIL_2]"}]
    assert scrubber.text("BO@x.example") == "[EMAIL_2]"
    assert scrubbed["max_tokens"] == 8
    assert scrubber.text("4111111111111111 or 4111 1111 1111 1111") == "[CARD_1] or [CARD_1]"


@pytest.mark.parametrize(
    ("check", "value", "changed"),
    [
        (luhn, "4111111111111111", "4111111111111112"),
        (iban, "GB82 WEST 1234 5698 7654 32", "GB83 WEST 1234 5698 7654 32"),
        (dni, "12345678Z", "12345678A"),
        (nir, "255081416802538", "255081416802539"),
        (cpf, "111.444.777-35", "111.444.777-36"),
        (ahv, "756.9217.0769.85", "756.9217.0769.84"),
        (codice_fiscale, "MRTMTT91D08F205J", "MRTMTT91D08F205K"),
        (steuer_id, "86095742719", "86095742718"),
    ],
)
def test_checksums(check: Callable[[str], int], value: str, changed: str) -> None:
    """Each accepts a published example, and refuses it with its check character changed."""
    assert check(value)
    assert not check(changed)


def test_what_follows_a_number_is_not_part_of_it() -> None:
    """An IBAN ends where its country's do, so that the next words neither hide it nor go with it."""
    assert iban("DE89 3704 0044 0532 0130 00 on my") == len("DE89 3704 0044 0532 0130 00")


def test_a_long_hostile_text_takes_no_time() -> None:
    """Text made to make patterns backtrack is scrubbed in well under a second (the suite's clock would end it)."""
    for piece in ("a@", "1 ", "0 1-", "sk-", "x://y:", "A1:", "-----BEGIN "):
        Scrubber().text(piece * 4000)
