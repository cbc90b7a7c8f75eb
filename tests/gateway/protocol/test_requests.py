"""What is read of a request, and what is refused before a backend sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import BadRequest, UnsupportedParameter
from gateway.protocol.requests import InferenceRequest, parse_request, tool_names

CHAT: dict[str, Any] = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}]}


def parse(**fields: Any) -> InferenceRequest:
    return parse_request("chat.completions", json.dumps(CHAT | fields).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe{}",
        b'{"model": "teacher", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "teacher", "temperature": NaN, "messages": [{"role": "user"}]}',
        b"[" * 100_000,
        b'{"model": "teacher", "messages": [{"role": "user", "content": ' + b"[" * 500 + b"]" * 500 + b"}]}",
        b'{"model": "teacher", "seed": ' + b"9" * 5000 + b', "messages": [{"role": "user"}]}',
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """Bad JSON of any kind is a 400, never a crash."""
    with pytest.raises(BadRequest):
        parse_request("chat.completions", raw)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0]"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": "all"}, "stream_options"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata"),
    ],
)
def test_bad_parameters_are_named(fields: dict[str, Any], param: str) -> None:
    """A 400 says which parameter is wrong."""
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_logprobs": 0},
        {"prompt_logprobs": False},
        {"prompt_logprobs": 5},
        {"return_token_ids": True},
        {"return_tokens_as_token_ids": True},
        {"kv_transfer_params": {}},
        {"return_prompt_text": True},
        {"allowed_token_ids": [5], "logprobs": True},
        {"logprobs": True, "top_logprobs": 21},
        {"logprobs": True, "top_logprobs": -1},
        {"logprobs": True, "top_logprobs": "21"},
        {"logprobs": True, "top_logprobs": [5]},
    ],
)
def test_extensions_that_give_more_away_are_refused(fields: dict[str, Any]) -> None:
    """What OpenAI's API does not give, nobody gets by a backend's extension."""
    with pytest.raises(UnsupportedParameter):
        parse(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a", "logprobs": 6},
        {"prompt": "a", "logprobs": "6"},
        {"prompt": "a", "echo": True, "logprobs": 1},
    ],
)
def test_completions_give_no_more_either(fields: dict[str, Any]) -> None:
    """More than five log-probabilities, or those of the prompt, are refused on /v1/completions."""
    with pytest.raises(UnsupportedParameter):
        parse_request("completions", json.dumps({"model": "teacher"} | fields).encode())


def test_harmless_values_of_extensions_pass() -> None:
    """Null and false ask for nothing, so they are not refused."""
    assert parse(prompt_logprobs=None, return_token_ids=False, logprobs=True, top_logprobs=20).body["logprobs"] is True


def test_only_an_explicit_true_is_consent() -> None:
    """`store` opts in to training only when it is exactly true."""
    assert parse(store=True).store
    assert not any(parse(store=value).store for value in (False, None, "true", 1))


def test_a_body_that_needs_no_change_goes_on_byte_for_byte() -> None:
    """Spacing, order and unknown fields of a request reach the backend as they were sent."""
    raw = b'{ "unknown":1.0,\n "model":"teacher","messages":[{"role":"user","content":"h\\u00e9"}] }'
    assert parse_request("chat.completions", raw).upstream_body("teacher") == raw


def test_a_stream_always_asks_for_usage() -> None:
    """Upstream gets include_usage and continuous usage, and the client's own stream options."""
    sent = json.loads(parse(stream=True, stream_options={"x": 1}).upstream_body("mini@1"))
    assert sent["model"] == "mini@1"
    assert sent["stream_options"] == {"x": 1, "include_usage": True, "continuous_usage_stats": True}


def test_names_of_tools() -> None:
    """The record lists the names of declared tools, whatever else is in the list."""
    tools = [{"type": "function", "function": {"name": "weather"}}, {"type": "x"}, "nonsense"]
    assert tool_names({"tools": tools}) == ["weather"]
    assert tool_names({"tools": "nonsense"}) == []


def test_recorded_parameters_rebuild_the_task() -> None:
    """Every field that the skeleton sees is among the recorded ones, so that a record can be asked again."""
    form = {"response_format": {"type": "json_object"}, "structured_outputs": {"choice": ["a"]}, "guided_regex": "a+"}
    made = parse(**form, temperature=0.0, stop=None, unknown=1)
    recorded = made.parameters(with_text=True)
    assert recorded == form | {"temperature": 0.0}
    again = parse(**recorded)
    assert again.skeleton == made.skeleton
    assert made.parameters(with_text=False) == {"temperature": 0.0}
