"""The text of messages, in whatever shape it comes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger.content import content_text, text_of


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "c"}]}, "c"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}, "a"),
        ({"messages": [{"role": "system", "content": "a"}]}, ""),
        ({"prompt": "a"}, "a"),
        ({"prompt": ["a", "b"]}, "a\nb"),
        ({"prompt": [1, 2, 3]}, ""),
        ({"messages": ["odd", {"role": "user", "content": None}]}, ""),
        ({}, ""),
    ],
)
def test_text_of_is_the_last_user_message_or_the_prompt(row: dict[str, Any], text: str) -> None:
    """What a request asks, in each of the shapes that OpenAI allows."""
    assert text_of(row) == text


def test_content_text_takes_any_shape() -> None:
    """Odd content has no text, and is no error."""
    assert content_text({"text": "x"}) == ""
    assert content_text([{"type": "input_text", "text": "a"}, "b", 3, None, {"text": 4}]) == "a\nb"
