"""The scrubber: what it finds, what it leaves alone, and that both sides of a row agree."""

from __future__ import annotations

import pytest

from distiller.scrubbing import Scrubber, iban, luhn

FOUND = {
    "EMAIL": ["ana.b+x@mail.example.org", "j_doe@sub.example.co.uk", "INFO@EXAMPLE.COM", "jürgen@example.de"],
    "PHONE": [
        "+49 30 901820", "+1 (555) 010-9999", "555-010-9999", "(030) 9018 20", "0171 5550199", "+442079460018",
        "020 7946 0018", "01715550199", "+33 1 23 45 67 89",
    ],
    "CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011000990139424"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR14 2004 1010 0505 0001 3M02 606"],
    "IP": ["203.0.113.7", "2001:db8::ff00:42:8329", "10.1.2.3"],
    "SECRET": [
        "sk-abcdefghijklmnop1234", "AKIAABCDEFGHIJKLMNOP", "ghp_" + "a1B2" * 9, "xoxb-1234567890-abcdef",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeKKF2Q", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
    ],
    "URL": ["https://ana:hunter2@db.example.org/x", "postgresql://app:s3cr3t@10.0.0.5:5432/shop"],
}  # fmt: skip

LEFT = [
    "order 4471-2290 of 2026-11-03 at 14:30", "invoice INV-20931, 129.90 EUR", "version 1.2.3 and build 4.5.6.7890",
    "card 4111 1111 1111 1112 fails the check", "IBAN DE00370400440532013000 fails too", "room 12, floor 3, 25 %",
    "https://example.org/path?x=1", "see a::b and std::vector", "the password is wrong", "token: [SECRET_1]",
    "127.0.0.1",
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


def test_checksums() -> None:
    """Luhn and mod 97 accept published examples, and refuse them with one digit changed."""
    assert luhn("79927398713000") is False
    assert luhn("4111111111111111")
    assert not luhn("0000000000000000")
    assert iban("GB82 WEST 1234 5698 7654 32")
    assert not iban("GB83 WEST 1234 5698 7654 32")


def test_a_long_hostile_text_takes_no_time() -> None:
    """Text made to make patterns backtrack is scrubbed in well under a second (the suite's clock would end it)."""
    for piece in ("a@", "1 ", "0 1-", "sk-", "x://y:", "A1:", "-----BEGIN "):
        Scrubber().text(piece * 4000)
