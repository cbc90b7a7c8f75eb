"""The key of a prefix, and the bids of the servers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gateway.fleet.affinity import LONG_SYSTEM, LONGEST_QUESTION, SLOTS, prefix_slot, score, seed_of
from gateway.protocol.requests import Endpoint, InferenceRequest


def key(endpoint: Endpoint = "chat.completions", **body: Any) -> int | None:
    """Return the key of a body, as it stands after parsing."""
    return prefix_slot(InferenceRequest(endpoint, json.dumps(body).encode(), body, "m", False))


def chat(*turns: tuple[str, Any], **fields: Any) -> int | None:
    """Return the key of a conversation."""
    return key(messages=[{"role": role, "content": content} for role, content in turns], **fields)


def test_turns_of_a_conversation_share_a_slot() -> None:
    """It is of the beginning, which later turns repeat."""
    begun = [("system", "You help."), ("user", "Hello")]
    assert chat(*begun) == chat(*begun, ("assistant", "Hi"), ("user", "And now?"))
    assert chat(*begun) != chat(("system", "You help."), ("user", "Good day"))
    assert chat(*begun) != chat(("system", "You do not."), ("user", "Hello"))


def test_first_questions_to_one_long_prompt_share_a_slot() -> None:
    """Once conversations have a history of their own they go apart, each to one place."""
    prompt, answer = ("system", "Be brief. " * (LONG_SYSTEM // 10 + 1)), ("assistant", "Yes.")
    one, other, more = ("user", "One?"), ("user", "Other?"), ("user", "And now?")
    assert chat(prompt, one) == chat(prompt, other)
    assert chat(prompt, one, answer, more) != chat(prompt, other, answer, more)
    assert chat(prompt, one, answer, more) == chat(prompt, one, answer, more, answer, more)


def test_questions_about_one_long_text_share_a_slot() -> None:
    """At the beginning of the question, whatever the system prompt."""
    text = "word " * LONGEST_QUESTION
    assert chat(("user", text + "First?")) == chat(("user", text + "Second?"))
    asked = [chat(("system", "You help."), ("user", text + question)) for question in ("First?", "Second?")]
    assert asked[0] == asked[1] != chat(("user", text))


def test_parts_are_read_as_text() -> None:
    """A message in parts has the key of its text, pictures left out."""
    picture = {"type": "image_url", "image_url": {"url": "data:…"}}
    assert chat(("user", [{"type": "text", "text": "Look"}, picture])) == chat(("user", "Look"))


def test_hints_come_first() -> None:
    """`prompt_cache_key` stands for the prefix, `cache_salt` keeps apart what vLLM keeps apart."""
    hello, other = ("user", "Hello"), ("user", "Other")
    assert chat(hello, prompt_cache_key="k") == chat(other, prompt_cache_key="k")
    assert chat(hello, prompt_cache_key="k") != chat(hello, prompt_cache_key="l")
    assert chat(hello, cache_salt="a") != chat(hello, cache_salt="b")
    assert chat(hello, prompt_cache_key=7, cache_salt=[]) == chat(hello)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": "a"}, {"prompt": "b"}),
        ({"prompt": ["a", "x"]}, {"prompt": ["b", "x"]}),
        ({"prompt": [1, 2]}, {"prompt": [1, 3]}),
        ({"prompt": [[1], [9]]}, {"prompt": [[2], [9]]}),
        ({"input": "a"}, {"input": "b"}),
        ({"input": ["a"]}, {"input": ["b"]}),
        ({"instructions": "a", "input": "x"}, {"instructions": "b", "input": "x"}),
        ({"instructions": "a" * 2000, "input": "x"}, {"instructions": "b" * 2000, "input": "x"}),
        ({"system": "a", "messages": [{"role": "user"}]}, {"system": "b", "messages": [{"role": "user"}]}),
    ],
)
def test_every_kind_of_prompt_has_a_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Prompts of any endpoint, as text, texts or tokens, are told apart."""
    assert key("completions", **one) is not None
    assert key("completions", **one) != key("completions", **other)


@pytest.mark.parametrize(
    "body", [{}, {"messages": []}, {"prompt": None}, {"prompt": {}}, {"messages": [{"role": "user"}]}]
)
def test_without_text_there_is_no_key(body: dict[str, Any]) -> None:
    """Such a request goes to one that is less busy, and an odd one harms nobody."""
    assert key(**body) is None


def test_slots_and_bids_are_the_same_everywhere() -> None:
    """Gateways of other machines and releases compute these very numbers."""
    assert chat(("system", "You help."), ("user", "Hello")) == 3534
    assert seed_of("http://10.0.0.1:8000") == 0x466CF36C0B783AF5
    assert math.isclose(score(14, 0x466CF36C0B783AF5, 2.0), 0.7938735291433358)


def test_bids_are_finite_and_positive() -> None:
    """At both ends of the range too."""
    assert all(0.0 < score(number, 0, 1.0) < float("inf") for number in (0, 1, SLOTS - 1))
