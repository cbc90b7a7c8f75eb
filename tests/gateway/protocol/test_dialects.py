"""Every dialect, whatever it is given: a body or an event of any shape is read or refused, and never our own bug."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, UpstreamFailed
from gateway.protocol.answers import error_in_stream
from gateway.protocol.dialects import DIALECTS, Endpoint
from gateway.protocol.requests import parse_request, tool_names
from tests.properties import examples

NAMES = (
    *("type", "text", "role", "content", "delta", "index", "usage", "message", "response", "choices", "finish_reason"),
    *("tool_calls", "function", "name", "arguments", "id", "input", "output", "summary", "status", "item", "data"),
    *("thinking", "partial_json", "content_block", "source", "error", "code", "input_tokens", "prompt_tokens"),
    *("incomplete_details", "sequence_number", "tool_use_id", "image_url", "format", "effort", "stop_reason"),
)
WORDS = (
    *("message_start", "message_delta", "message_stop", "content_block_delta", "content_block_start", "tool_use"),
    *("response.created", "response.completed", "response.output_text.delta", "response.output_item.done", "thinking"),
    *("function_call", "reasoning", "tool_result", "image", "user", "completed", "incomplete", "failed", "text"),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats(0, 1) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)
ANYTHING = settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIELDS = ("system", "instructions", "tools", "text", "reasoning", "include", "output_config", "metadata", "stop")
STREAMS: list[Endpoint] = ["chat.completions", "completions", "responses", "messages"]


def asked(endpoint: Endpoint, **fields: Any) -> bytes:
    """Return a body that has what the endpoint needs."""
    least: dict[str, Any] = {"messages": [{"role": "user"}], "prompt": "x", "input": "x"}
    if endpoint == "responses":
        del least["prompt"]  # there it names a template of the server's
    return json.dumps({"model": "teacher"} | least | fields).encode()


@pytest.mark.parametrize("endpoint", DIALECTS)
@ANYTHING
@example({"input": [{"type": "reasoning", "summary": [{"text": 5}]}, {"type": ["x"]}, {"role": "user", "content": 5}]})
@example({"messages": [{"role": "user", "content": [{"type": "tool_use", "input": [], "name": 5}, {"text": 5}, "x"]}]})
@example({"system": {"text": "x"}, "tools": [5, {"function": 5}], "metadata": {"user_id": None}})
@given(st.dictionaries(st.sampled_from((*FIELDS, "input", "messages", "prompt")), VALUES, max_size=5))
def test_any_body_is_read_or_refused(endpoint: Endpoint, fields: dict[str, Any]) -> None:
    """A body of any shape gives a request that can be routed and recorded, or a 400."""
    with suppress(BadRequest):
        request = parse_request(endpoint, asked(endpoint, **fields))
        assert request.skeleton
        json.dumps([request.subject[request.dialect.text], request.parameters(with_text=True)])
        assert isinstance(tool_names(request.subject), list)
        assert request.upstream_body("teacher")


@pytest.mark.parametrize("endpoint", DIALECTS)
@ANYTHING
@example([{"type": ["x"], "choices": [{"index": ["x"], "delta": {"tool_calls": [{"index": ["x"], "function": []}]}}]}])
@example([{"type": "content_block_delta", "index": 7, "delta": {"partial_json": "x", "text": 5}}, {"usage": {"x": 5}}])
@given(st.lists(OBJECTS, max_size=6))
def test_any_answer_is_read(endpoint: Endpoint, found: list[dict[str, Any]]) -> None:
    """Whatever a backend sends as events or as an answer, the record can be made of it."""
    dialect = DIALECTS[endpoint]
    answer = dialect.answer()
    for chunk in found if endpoint in STREAMS else []:
        if dialect.failed(chunk) is None:
            answer.add_chunk(chunk)
    for whole in found:
        dialect.answer().add_whole(whole)
    json.dumps([answer.response(), answer.usage, answer.finish_reason])
    error = UpstreamFailed("it failed")
    assert dialect.errors.events(error, "r1", answer).endswith(b"\n\n")
    assert json.loads(dialect.errors.body(error, "r1"))["error"]["message"] == "it failed"


@given(OBJECTS)
def test_any_error_object_is_an_error(found: dict[str, Any]) -> None:
    """A truthy `error` is one of ours, whatever is in it."""
    error = error_in_stream(found)
    assert isinstance(error, GatewayError) == bool(found.get("error"))


@pytest.mark.parametrize(
    ("endpoint", "fields", "most"),
    [
        ("chat.completions", {"max_tokens": 5, "max_completion_tokens": 3}, 3),
        ("chat.completions", {"max_tokens": 5}, 5),
        ("completions", {"max_tokens": 5}, 5),
        ("responses", {"max_output_tokens": 5}, 5),
        ("messages", {"max_tokens": 5}, 5),
        ("messages", {"max_tokens": "five"}, None),
        ("embeddings", {"max_tokens": 5}, None),
    ],
)
def test_the_bound_on_the_output(endpoint: Endpoint, fields: dict[str, Any], most: int | None) -> None:
    """Each endpoint has its own name for it; chat completions' newer one counts before the older."""
    assert parse_request(endpoint, asked(endpoint, **fields)).maximum_output == most
