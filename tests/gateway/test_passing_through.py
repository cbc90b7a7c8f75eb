"""What we don't need to understand passes through unharmed, byte for byte, in both directions and both modes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.endpoints import LAST
from tests.fakes import END, FakeVllm, framed, response, stream_head
from tests.gateway.conftest import RunningGateway

PATH = "/v1/chat/completions"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"c": "Ulm"}'}}
REQUESTS: dict[str, dict[str, Any]] = {
    "tools": {
        "messages": [
            {"role": "user", "content": "What is it like in Ulm?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "wet"},
        ],
        "tools": [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "w"}},
        "parallel_tool_calls": False,
    },
    "JSON schema": {
        "messages": [{"role": "user", "content": "red or blue?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": {"enum": ["a"]}}},
    },
    "vision": {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}]},
    "log-probabilities and choices": {
        "messages": [{"role": "user", "content": "hi"}],
        "logprobs": True,
        "top_logprobs": 20,
        "n": 3,
        "max_completion_tokens": 5,
    },
    "unknown fields": {
        "messages": [{"role": "user", "content": "hi", "name": "x", "odd": [1.0, 1e2, "\u00e9\U0001f600"]}],
        "a_field_of_next_year": {"deep": [None, True]},
        "chat_template_kwargs": {"enable_thinking": False},
        "priority": -3,
    },
}
LOGPROB = '{"token":"a","logprob":-0.50,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1e0,"bytes":null}]}'
# Bodies and chunks as they might be spaced, ordered and numbered by anybody: none of it is rewritten.
ANSWERS = {
    "tool calls": '"message": {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":'
    '{"name":"w","arguments":"{\\"c\\": 1.50}"}}]},"finish_reason":"tool_calls"',
    "reasoning": '"message":{"content":"4","reasoning_content":"2+2","reasoning":"2+2"},"finish_reason":"stop"',
    "log-probabilities": f'"message":{{"content":"a"}},"logprobs":{{"content":[{LOGPROB}]}},"finish_reason":"length"',
}
DELTAS = {
    "tool calls": [
        '"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"c1","function":{"name":"w","arguments":""}}]}',
        '"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"c\\":"}}]}',
        '"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1.50}"}}]},"finish_reason":"tool_calls"',
    ],
    "reasoning": ['"delta":{"reasoning":"2+2","reasoning_content":"2+2"}', '"delta":{"content":"4"},"x":1.50'],
    "log-probabilities": [f'"delta":{{"content":"a"}},"logprobs":{{"content":[{LOGPROB}]}}'],
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_reaches_the_backend_byte_for_byte(house: RunningGateway, vllm: FakeVllm, name: str) -> None:
    """Spacing, order, escapes and numbers of what was asked are the client's."""
    raw = json.dumps({"model": "teacher"} | REQUESTS[name], indent=1).replace("1.0,", "1.000,").encode()
    headers = {"authorization": f"Bearer {house.key()}", "content-type": "application/json"}
    assert house.http.post(PATH, content=raw, headers=headers).status_code == 200
    assert vllm.received[-1].raw == raw


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_for_a_stream_keeps_every_field(house: RunningGateway, vllm: FakeVllm, name: str) -> None:
    """Only the question for usage is added."""
    body = {"model": "teacher", "stream": True} | REQUESTS[name]
    house.http.post(PATH, json=body, headers={"authorization": f"Bearer {house.key()}"})
    asked = vllm.received[-1].body
    assert asked.pop("stream_options") == {"include_usage": True, "continuous_usage_stats": True}
    assert asked == body


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_reaches_the_client_byte_for_byte(house: RunningGateway, vllm: FakeVllm, name: str) -> None:
    """Also with several choices, in any order."""
    choices = ", ".join(f'{{"index":{index},{ANSWERS[name]}}}' for index in (1, 0))
    body = f'{{ "id":"x","choices":[{choices}],\n"usage":{{"prompt_tokens":7,"completion_tokens":3}}, "odd":1.500 }}'
    vllm.play(response(body.encode()))
    asked = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}]}
    answer = house.http.post(PATH, json=asked, headers={"authorization": f"Bearer {house.key()}"})
    assert answer.content == body.encode()
    assert house.record()["response"]["choices"] == 2


@pytest.mark.parametrize("name", DELTAS)
def test_a_stream_reaches_the_client_byte_for_byte(house: RunningGateway, vllm: FakeVllm, name: str) -> None:
    """Each event is the backend's own, but for the usage that only we asked for."""
    shown = [
        f'{{"id":"x", "created":1.50,"choices":[{{"index":{index},{delta}}}]'
        for delta in DELTAS[name]
        for index in (0, 1)
    ]
    used = ',"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1}}'
    last = framed(f'data: {{"choices":[]{used}\n\n'.encode())
    vllm.play(stream_head(), *(framed(f"data: {chunk}{used}\n\n".encode()) for chunk in shown), last, END)
    asked = {"model": "teacher", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    answer = house.http.post(PATH, json=asked, headers={"authorization": f"Bearer {house.key()}"})
    events = [f"data: {chunk}}}" for chunk in shown]
    assert answer.text.split("\n\n") == [*events, ": x-spiritsafe-cost: 10000", "data: [DONE]", ""]


def test_a_client_that_asked_for_all_usage_gets_the_stream_untouched(house: RunningGateway, vllm: FakeVllm) -> None:
    """Then nothing at all is taken out."""
    chunk = '{"choices":[{"index":0,"delta":{"content":"a"}}], "usage" :{"prompt_tokens":7,"completion_tokens":1} }'
    vllm.play(stream_head(), framed(f"data: {chunk}\n\n".encode()), END.removesuffix(LAST), LAST)
    options = {"include_usage": True, "continuous_usage_stats": True}
    asked = {"model": "teacher", "stream": True, "stream_options": options, "messages": [{"role": "user"}]}
    answer = house.http.post(PATH, json=asked, headers={"authorization": f"Bearer {house.key()}"})
    assert answer.text.split("\n\n")[0] == f"data: {chunk}"
