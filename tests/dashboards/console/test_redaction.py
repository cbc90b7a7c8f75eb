"""Prompts as shapes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboards.console.redaction import BLOCK, LONGEST, Part, parts


@given(st.text())
def test_a_shape_holds_nothing_of_the_text(text: str) -> None:
    """Whatever was written, the shape is blocks, spaces, line ends and an ellipsis."""
    assert set(Part("user", text).shape()) <= set(f"{BLOCK} \n…")


@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=60))
def test_a_shape_shows_the_lengths_of_the_first_words(words: list[str]) -> None:
    """Each block is as long as its word, up to a bound, and what is left out is marked."""
    shape = Part("user", " ".join(words)).shape(limit=20)
    blocks = shape.removesuffix(" …").split()
    assert [len(block) for block in blocks] == [min(len(word), LONGEST) for word in words[:20]]
    assert shape.endswith("…") == (len(words) > 20)


def test_messages_become_parts() -> None:
    """Roles and texts are kept apart, content parts are joined."""
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = parts({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": content}]})
    assert found == [Part("system", "s"), Part("user", "a\nb")]


def test_a_prompt_is_one_part() -> None:
    """The completions endpoint has a prompt and no messages."""
    assert parts({"prompt": "once upon"}) == [Part("prompt", "once upon")]


def test_a_record_without_text_has_no_parts() -> None:
    """Where policy keeps no text there is nothing to show."""
    assert parts({"id": "x"}) == []
