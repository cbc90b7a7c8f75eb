"""What a request needs and what a model can do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.capabilities import BYTES_PER_TOKEN, Capabilities, needs_of
from gateway.protocol.requests import InferenceRequest, parse_request


def request(content: object = "Hello", **fields: Any) -> InferenceRequest:
    """Return a chat request."""
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]} | fields
    return parse_request("chat.completions", json.dumps(body).encode())


def test_text_and_answer_count_against_the_context() -> None:
    """The prompt by its bytes, the answer by the most that was asked for."""
    short = needs_of(request(max_tokens=50)).tokens
    assert needs_of(request("Hello" + "x" * 1000, max_tokens=50)).tokens == short + 1000 // BYTES_PER_TOKEN
    assert needs_of(request(max_completion_tokens=60)).tokens - 60 == pytest.approx(short - 50, abs=10)
    assert Capabilities(short).can_take(needs_of(request(max_tokens=50)))
    assert not Capabilities(short - 1).can_take(needs_of(request(max_tokens=50)))


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, Capabilities(999, tools=False)),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, Capabilities(999, schema=False)),
        ({"response_format": {"type": "json_object"}}, Capabilities(999, schema=False)),
        ({"guided_regex": "a+"}, Capabilities(999, schema=False)),
        ({"content": [{"type": "image_url", "image_url": {"url": "u"}}]}, Capabilities(999)),
        ({"content": [{"type": "input_audio", "input_audio": {}}]}, Capabilities(999, modalities=frozenset(["image"]))),
    ],
)
def test_a_model_without_what_is_needed_cannot_take_it(fields: dict[str, Any], lacking: Capabilities) -> None:
    """One that has everything can."""
    needs = needs_of(request(**fields))
    assert not lacking.can_take(needs)
    assert Capabilities(999, modalities=frozenset(["image", "audio", "video"])).can_take(needs)


def test_words_are_not_pictures() -> None:
    """A text that speaks of parts needs no eyes, and plain formats need no schema."""
    needs = needs_of(request('{"type": "image_url"}', response_format={"type": "text"}, tools=[]))
    assert (needs.modalities, needs.schema, needs.tools) == (frozenset(), False, False)


def test_pictures_are_not_counted_as_text() -> None:
    """A picture of a megabyte costs a model a few hundred tokens."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert needs_of(request([picture], max_tokens=7)).tokens == 7
