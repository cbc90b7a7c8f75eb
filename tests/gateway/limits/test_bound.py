"""The most that a request can use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import BadRequest
from gateway.limits.bound import MESSAGE_TOKENS, TEMPLATE_TOKENS, Bound, bound_of
from gateway.protocol.requests import Endpoint, parse_request

CONTEXT = 2048


def bound(max_output: int | None = None, endpoint: Endpoint = "chat.completions", **body: Any) -> Bound:
    """Return the bound of a request."""
    content = {"prompt": "Hi"} if endpoint == "completions" else {"messages": [{"role": "user", "content": "Hi"}]}
    raw = json.dumps({"model": "m"} | content | body).encode()
    return bound_of(parse_request(endpoint, raw), CONTEXT, max_output)


def test_a_token_is_at_least_a_byte() -> None:
    """The body's length and the template bound the prompt; never more than the model reads."""
    short = bound()
    assert TEMPLATE_TOKENS + MESSAGE_TOKENS < short.prompt < TEMPLATE_TOKENS + MESSAGE_TOKENS + 100
    assert bound(messages=[{"role": "user", "content": "é" * 100}]).prompt > short.prompt + 200
    assert bound(messages=[{"role": "user", "content": "x" * 9999}]).prompt == CONTEXT


def test_what_is_no_text_is_bounded_by_the_model() -> None:
    """An image's address is short and its tokens are many."""
    image = {"type": "image_url", "image_url": {"url": "http://x/y.png"}}
    assert bound(messages=[{"role": "user", "content": [image]}]).prompt == CONTEXT
    text = {"type": "text", "text": "Hi"}
    assert bound(messages=[{"role": "user", "content": [text]}]).prompt < CONTEXT


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"max_completion_tokens": 10}, 10),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10, "max_tokens": 99}, 10),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "n": -3}, 10),
        ({"max_tokens": 99999}, CONTEXT),
    ],
)
def test_the_callers_own_maximum_counts(body: dict[str, Any], output: int) -> None:
    """For each answer that is asked for, and as far as the model goes; nothing is injected then."""
    found = bound(**body)
    assert (found.output, found.inject) == (output, None)
    assert found.tokens == found.prompt + output
    assert found.cost((2, 3)) == 2 * found.prompt + 3 * output


@pytest.mark.parametrize("value", ["64", 64.0, True, [64]])
@pytest.mark.parametrize("name", ["n", "best_of", "max_completion_tokens", "max_tokens"])
def test_no_form_of_a_number_escapes(name: str, value: Any) -> None:
    """vLLM reads texts, fractions and truths as numbers too; what can't be counted is no request here."""
    with pytest.raises(BadRequest, match="whole number") as caught:
        bound(**{name: value})
    assert caught.value.param == name


def test_a_null_asks_for_nothing() -> None:
    """It is what an SDK sends for what its user left out."""
    assert bound(n=None, best_of=None, max_tokens=10, max_completion_tokens=None).output == 10


def test_without_a_maximum_one_is_injected() -> None:
    """What the caller would have got anyway, or the limit where it is lower; null asks for all there is."""
    assert bound().inject == {"max_completion_tokens": CONTEXT}
    assert bound(100).inject == {"max_completion_tokens": 100}
    assert bound(endpoint="completions").inject == {"max_tokens": 16}
    assert bound(5, endpoint="completions").inject == {"max_tokens": 5}
    assert bound(endpoint="completions", max_tokens=None).inject == {"max_tokens": CONTEXT}


def test_a_batch_of_prompts_counts_each() -> None:
    """Several prompts have several answers; a list of numbers is one prompt."""
    assert bound(endpoint="completions", prompt=["a", "b"], max_tokens=10).output == 20
    assert bound(endpoint="completions", prompt=[1, 2, 3], max_tokens=10).output == 10
    assert bound(endpoint="completions", prompt=[[1], [2]], max_tokens=10, n=2).output == 40
    assert bound(endpoint="completions", prompt="", prompt_embeds=["AA==", "AA=="], max_tokens=10).output == 30
    assert bound(endpoint="completions", prompt="", prompt_embeds="AA==", max_tokens=10).output == 20


def test_more_than_is_allowed_is_refused() -> None:
    """A limit on answers is told to the caller, not applied behind its back."""
    with pytest.raises(BadRequest, match="limited to 9 tokens") as caught:
        bound(9, max_tokens=10)
    assert caught.value.param == "max_tokens"
