"""Embeddings, responses and messages: the same promises as for chat, in the form that each endpoint's clients know."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from gateway.ledger import keys
from tests.endpoints import (
    LAST,
    a_response,
    answer_any_endpoint,
    message,
    messages_stream,
    named,
    output_message,
    response_usage,
    responses_stream,
)
from tests.fakes import Drop, FakeVllm, Hang, error_response, response, stream_head
from tests.gateway.conftest import RunningGateway, eventually

MESSAGES = {"model": "teacher", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES = {"model": "teacher", "input": "hi"}
EMBEDDINGS = {"model": "teacher", "input": ["a", "b"]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "teacher", "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "teacher", "prompt": "hi"},
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages/count_tokens": MESSAGES,
}
STREAMED = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture(autouse=True)
def mended(house: RunningGateway, vllm: FakeVllm) -> None:
    """Begin with a backend that just worked: failures in a row, of the tests before, would take it out of service."""
    if "x-api-key" not in house.http.headers:
        house.http.headers["x-api-key"] = house.key()
    eventually(lambda: post(house, "/v1/chat/completions", BODIES["/v1/chat/completions"]).status_code == 200)
    vllm.forget()
    house.hide_frames()


@pytest.fixture
def every(vllm: FakeVllm) -> FakeVllm:
    """A scripted vLLM that has all endpoints."""
    vllm.always(answer_any_endpoint)
    return vllm


def post(house: RunningGateway, path: str, body: dict[str, Any], timeout: Any = 10, **headers: str) -> httpx.Response:
    """Post with the module's key, as Anthropic's clients send it."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return house.http.post(path, json=body, headers=sent, timeout=timeout)


def events(text: str) -> list[dict[str, Any]]:
    """Return the JSON of a stream's events."""
    lines = [line for part in text.split("\n\n") for line in part.split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines]


@pytest.mark.parametrize("path", BODIES)
def test_answers_pass_byte_for_byte(house: RunningGateway, every: FakeVllm, path: str) -> None:
    """What was not streamed reaches the client exactly as the backend wrote it, from the path it was asked on."""
    answer = post(house, path, BODIES[path])
    [script] = answer_any_endpoint(every.received[-1])
    assert isinstance(script, bytes)
    assert answer.content == script.partition(b"\r\n\r\n")[2]
    assert every.received[-1].path == path
    assert answer.headers["x-spiritsafe-route-reason"] == "pinned"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_streams_pass_byte_for_byte(house: RunningGateway, every: FakeVllm, path: str) -> None:
    """Every event reaches the client as it was written; only the price stands before the last one, and no [DONE]."""
    text = post(house, path, BODIES[path] | {"stream": True}).text
    makers = {"/v1/responses": responses_stream, "/v1/messages": messages_stream}
    sent = [part for part in b"".join(_unframed(step) for step in makers[path]("teacher")[1:]).split(b"\n\n") if part]
    got = [part for part in text.encode().split(b"\n\n") if part]
    assert got == [*sent[:-1], b": x-spiritsafe-cost: 16000", sent[-1]]
    assert "[DONE]" not in text


def _unframed(step: bytes) -> bytes:
    return step.removesuffix(LAST).partition(b"\r\n")[2].removesuffix(b"\r\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_what_is_recorded(house: RunningGateway, every: FakeVllm, path: str, stream: bool) -> None:
    """The record is in OpenAI's terms, whatever the endpoint: text, usage, why it ended, price."""
    post(house, path, BODIES[path] | {"stream": stream})
    record = house.record()
    assert record["endpoint"] == path.removeprefix("/v1/")
    assert record["messages"] == [{"role": "user", "content": "hi"}]
    assert record["response"] == {"content": "Hello there!", "choices": 1}
    assert record["finish_reason"] == "stop"
    spent = {name: record["usage"][name] for name in ("input_tokens", "output_tokens", "source")}
    assert spent == {"input_tokens": 7, "output_tokens": 3, "source": "exact"}
    assert (record["cost"], record["turns"]) == (16000, 1)
    assert ("time_to_first_token_ms" in record) == stream


def test_embeddings(house: RunningGateway, every: FakeVllm) -> None:
    """The stock SDK gets its vectors; the record has the texts, the tokens and how many vectors, not the vectors."""
    found = house.client().embeddings.create(model="teacher", input=["a", "b"])
    assert [item.embedding for item in found.data] == [[1.0, 2.0]] * 2
    record = house.record()
    assert (record["endpoint"], record["prompt"]) == ("embeddings", ["a", "b"])
    assert record["response"] == {"content": None, "choices": 2}
    assert record["usage"] == {"input_tokens": 4, "output_tokens": 0, "source": "exact"}
    assert (record["cost"], record["status"]) == (4000, 200)


@pytest.mark.parametrize("fields", [{"stream": True}, {"encoding_format": "bytes"}, {"input": []}, {"model": "auto"}])
def test_what_embeddings_refuse(house: RunningGateway, every: FakeVllm, fields: dict[str, Any]) -> None:
    """No streams, no binary bodies, no empty input; and no `auto`, because vectors of two models can't be compared."""
    answer = post(house, "/v1/embeddings", EMBEDDINGS | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(fields)))
    assert every.received == []


def test_auto_answers_messages_and_responses(house: RunningGateway, every: FakeVllm) -> None:
    """`auto` chooses on the other endpoints as on chat."""
    for path in ("/v1/messages", "/v1/responses", "/v1/messages/count_tokens"):
        answer = post(house, path, BODIES[path] | {"model": "auto"})
        assert (answer.status_code, answer.headers["x-spiritsafe-route-reason"]) == (200, "no_student")
        assert every.received[-1].body["model"] == "teacher"


def test_a_response_is_stored_nowhere(house: RunningGateway, every: FakeVllm) -> None:
    """`store` is true by default on this wire: that is no consent, and no backend keeps the response."""
    post(house, "/v1/responses", RESPONSES)
    post(house, "/v1/responses", RESPONSES | {"store": True})
    assert [record["store"] for record in house.frames()] == [False, True]
    assert [request.body["store"] for request in every.received] == [False, False]


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"prompt": {"id": "pmpt_1"}},
        {"previous_input_messages": [{"role": "user"}]},
        {"request_id": "mine"},
        {"enable_response_messages": True},
        {"top_logprobs": 21},
        {"prompt_logprobs": 1},
        {"kv_transfer_params": {}},
    ],
)
def test_what_responses_refuse(house: RunningGateway, every: FakeVllm, fields: dict[str, Any]) -> None:
    """What needs the memory of one backend, or gives away more than OpenAI's API, is refused and says what to do."""
    error = post(house, "/v1/responses", RESPONSES | fields).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", next(iter(fields)))
    assert every.received == []


def test_errors_of_messages(house: RunningGateway, every: FakeVllm) -> None:
    """Anthropic's clients read their own error body, with the request's id in it and in the header they look at."""
    for body, key, status, kind in (
        (MESSAGES, "sk-safe-wrong", 401, "authentication_error"),
        (MESSAGES | {"model": "nobody"}, None, 404, "not_found_error"),
        (MESSAGES | {"messages": []}, None, 400, "invalid_request_error"),
        (MESSAGES | {"return_mm_kwargs": True}, None, 400, "invalid_request_error"),
    ):
        answer = post(house, "/v1/messages", body, x_api_key=key or str(house.http.headers["x-api-key"]))
        assert answer.status_code == status
        found = answer.json()
        assert (found["type"], found["error"]["type"]) == ("error", kind)
        assert found["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert house.http.get("/v1/messages").json()["type"] == "error"


@pytest.mark.parametrize(
    ("status", "expected", "kind"), [(400, 400, "invalid_request_error"), (500, 502, "api_error"), (503, 503, "over")]
)
def test_a_backends_refusal_of_a_message(
    house: RunningGateway, vllm: FakeVllm, status: int, expected: int, kind: str
) -> None:
    """vLLM's own 400 reaches the client with its words, in Anthropic's form; its 5xx say nothing of the inside."""
    body = json.dumps({"type": "error", "error": {"type": "BadRequestError", "message": "max_tokens is odd"}}).encode()
    for _ in range(2):
        vllm.play(response(body, status))
    answer = post(house, "/v1/messages", MESSAGES)
    assert answer.status_code == expected
    assert answer.json()["error"]["type"].startswith(kind)
    assert ("max_tokens is odd" in answer.text) == (status == 400)


def test_a_stream_of_messages_that_fails(house: RunningGateway, vllm: FakeVllm) -> None:
    """After content the failure is Anthropic's error event; what was made until then is counted and billed."""
    vllm.play(*messages_stream("teacher")[:5], Drop())
    text = post(house, "/v1/messages", MESSAGES | {"stream": True}).text
    assert events(text)[-1]["error"]["type"] == "api_error"
    assert text.endswith("\n\n")
    assert "event: error\ndata: " in text
    record = house.record()
    assert (record["status"], record["error"]) == (200, "upstream_disconnected")
    assert record["usage"] == {"input_tokens": 7, "output_tokens": 2, "source": "counted"}
    assert record["cost"] == 7 * 1000 + 2 * 3000


def test_a_stream_of_a_response_that_fails(house: RunningGateway, vllm: FakeVllm) -> None:
    """After content come an error event, at which the SDK raises, and the terminal `response.failed`."""
    vllm.play(*responses_stream("teacher")[:7], Drop())
    text = post(house, "/v1/responses", RESPONSES | {"stream": True}).text
    error, failed = events(text)[-2:]
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert [error["sequence_number"], failed["sequence_number"]] == [6, 7]
    assert (failed["response"]["id"], failed["response"]["status"]) == ("resp_fake", "failed")
    vllm.play(*responses_stream("teacher")[:7], Drop())
    with pytest.raises(openai.APIError, match="model's server"):
        list(house.client().responses.create(model="teacher", input="hi", stream=True))


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_before_content_another_try_is_made(house: RunningGateway, every: FakeVllm, path: str) -> None:
    """Opening events hold no content: a failure after them is mended unseen, and nothing of the first try is shown."""
    makers = {"/v1/responses": responses_stream, "/v1/messages": messages_stream}
    every.play(*makers[path]("teacher")[:3], Drop())
    text = post(house, path, BODIES[path] | {"stream": True}).text
    kinds = [event["type"] for event in events(text)]
    assert kinds.count("message_start" if path.endswith("messages") else "response.created") == 1
    assert kinds[-1] in ("message_stop", "response.completed")
    assert len(every.received) == 2


@pytest.mark.parametrize(
    ("path", "failure"),
    [
        ("/v1/messages", {"type": "error", "error": {"type": "internal_error", "message": "secret"}}),
        ("/v1/responses", {"type": "error", "code": "x", "message": "secret", "sequence_number": 1}),
        (
            "/v1/responses",
            {"type": "response.failed", "response": {"status": "failed", "error": {"message": "secret"}}},
        ),
    ],
)
def test_a_stream_that_begins_with_a_failure(
    house: RunningGateway, vllm: FakeVllm, path: str, failure: dict[str, Any]
) -> None:
    """An error event before content is a real status, without the backend's words."""
    for _ in range(2):
        vllm.play(stream_head(), named(failure), LAST)
    answer = post(house, path, BODIES[path] | {"stream": True})
    assert answer.status_code == 502
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_a_stream_without_its_terminator(house: RunningGateway, vllm: FakeVllm, path: str) -> None:
    """A clean end without the last event is a failure; a stray [DONE] is not that event."""
    makers = {"/v1/responses": responses_stream, "/v1/messages": messages_stream}
    vllm.play(*makers[path]("teacher")[:-1], b"e\r\ndata: [DONE]\n\n\r\n" + LAST)
    kinds = [event["type"] for event in events(post(house, path, BODIES[path] | {"stream": True}).text)]
    assert kinds[-1] == ("error" if path.endswith("messages") else "response.failed")
    assert house.record()["error"] == "upstream_protocol_error"


@pytest.mark.parametrize(
    ("path", "stream"), [*((path, False) for path in BODIES), *((path, True) for path in STREAMED)]
)
def test_a_client_that_leaves_is_felt_upstream(house: RunningGateway, vllm: FakeVllm, path: str, stream: bool) -> None:
    """On every endpoint, streamed or not, our connection to the backend closes at once: that aborts its work."""
    vllm.play(Hang())
    with pytest.raises(httpx.ReadTimeout):
        post(house, path, BODIES[path] | ({"stream": True} if stream else {}), timeout=0.25)
    assert vllm.received[-1].left.wait(0.5)


def test_an_endpoint_that_the_model_does_not_have(house: RunningGateway, vllm: FakeVllm) -> None:
    """vLLM has no embeddings for a chat model: that is the caller's mistake, not ours."""
    for refusal in (response(b'{"detail":"Not Found"}', 404), error_response(501, "not implemented")):
        vllm.play(refusal)
        answer = post(house, "/v1/embeddings", EMBEDDINGS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_endpoint")
        assert len(vllm.received) == 1
        vllm.forget()


def test_tokens_are_counted_without_a_record(house: RunningGateway, every: FakeVllm) -> None:
    """Counting needs a key and gives vLLM's number; it is no traffic and costs nothing."""
    answer = post(house, "/v1/messages/count_tokens", MESSAGES)
    assert answer.json()["input_tokens"] == 7
    assert house.frames() == []
    assert post(house, "/v1/messages/count_tokens", MESSAGES, x_api_key="").status_code == 401


def test_tools_and_thinking_of_messages(house: RunningGateway, vllm: FakeVllm) -> None:
    """A conversation with tools goes through untouched and is recorded in OpenAI's shape, streamed or not."""
    use: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    body = MESSAGES | {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "u1"},
        "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is it like?"}, image]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, use]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "wet"}]},
        ],
    }
    blocks: list[dict[str, Any]] = [{"type": "thinking", "thinking": "so", "signature": "s"}, use]
    spent = {"input_tokens": 20, "cache_read_input_tokens": 16, "output_tokens": 5}
    vllm.play(response(json.dumps(message("teacher", blocks, spent, stop_reason="tool_use")).encode()))
    answer = post(house, "/v1/messages", body)
    assert answer.json()["content"] == blocks
    assert vllm.received[-1].body == body
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    whole = house.record()
    assert whole["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it like?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "wet"},
    ]
    assert whole["response"] == {"content": None, "choices": 1, "reasoning": "so", "tool_calls": [call]}
    assert (whole["tools"], whole["user"], whole["turns"]) == (["weather"], "u1", 1)
    assert (whole["finish_reason"], whole["parameters"]["stop"]) == ("tool_calls", ["END"])
    assert whole["usage"] == {"input_tokens": 36, "cached_tokens": 16, "output_tokens": 5, "source": "exact"}

    delta = {"type": "content_block_delta", "index": 1}
    vllm.play(
        stream_head(),
        named({"type": "message_start", "message": message("teacher", [], {"input_tokens": 36, "output_tokens": 0})}),
        named({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "so"}}),
        named({"type": "content_block_start", "index": 1, "content_block": use | {"input": {}}}),
        named(delta | {"delta": {"type": "input_json_delta", "partial_json": '{"city":'}}),
        named(delta | {"delta": {"type": "input_json_delta", "partial_json": '"Ulm"}'}}),
        named({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}}),
        named({"type": "message_stop"}) + LAST,
    )
    post(house, "/v1/messages", body | {"stream": True})
    streamed = house.record()
    assert streamed["response"] == whole["response"]
    assert (streamed["finish_reason"], streamed["usage"]["input_tokens"]) == ("tool_calls", 36)


def test_tools_and_reasoning_of_responses(house: RunningGateway, vllm: FakeVllm) -> None:
    """Items go through untouched and are recorded in OpenAI's chat shape, streamed or not."""
    call_item = {"type": "function_call", "call_id": "c1", "id": "fc1", "name": "f", "arguments": '{"a":1}'}
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    body = RESPONSES | {
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "text": {"format": form},
        "reasoning": {"effort": "low"},
        "max_output_tokens": 50,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
                ],
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            call_item,
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
        ],
    }
    thought = {"type": "reasoning", "id": "r1", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]}
    whole = a_response("teacher", [thought, output_message("Done."), call_item], "completed", response_usage(9, 4))
    vllm.play(response(json.dumps(whole).encode()))
    assert post(house, "/v1/responses", body).json() == whole
    assert vllm.received[-1].body == body | {"store": False}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    record = house.record()
    assert record["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {"role": "assistant", "content": None, "reasoning": "hm"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    assert record["response"] == {"content": "Done.", "choices": 1, "reasoning": "so", "tool_calls": [call]}
    assert record["parameters"] == {
        "max_tokens": 50,
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
        },
    }
    assert (record["finish_reason"], record["tools"]) == ("tool_calls", ["f"])

    place = {"output_index": 0, "content_index": 0, "item_id": "x"}
    vllm.play(
        stream_head(),
        named({"type": "response.created", "response": a_response("teacher", [], "in_progress", None)}),
        named({"type": "response.reasoning_text.delta", **place, "delta": "so"}),
        named({"type": "response.output_text.delta", **place, "delta": "Done."}),
        named({"type": "response.function_call_arguments.delta", **place, "delta": '{"a":1}'}),
        named({"type": "response.output_item.done", "output_index": 2, "item": call_item}),
        named({"type": "response.completed", "response": whole}) + LAST,
    )
    post(house, "/v1/responses", body | {"stream": True})
    assert house.record()["response"] == record["response"]
    assert house.record()["usage"]["output_tokens"] == 4


def test_an_answer_that_was_cut_short(house: RunningGateway, vllm: FakeVllm) -> None:
    """The bound on the output is recorded as chat's `length`, so that no such row trains anything."""
    cut = a_response("teacher", [output_message("Hel")], "incomplete", response_usage())
    vllm.play(response(json.dumps(cut | {"incomplete_details": {"reason": "max_output_tokens"}}).encode()))
    post(house, "/v1/responses", RESPONSES)
    spent = {"input_tokens": 7, "output_tokens": 9}
    content = [{"type": "text", "text": "Hel"}]
    vllm.play(response(json.dumps(message("teacher", content, spent, stop_reason="max_tokens")).encode()))
    post(house, "/v1/messages", MESSAGES)
    assert [record["finish_reason"] for record in house.frames()] == ["length", "length"]


def test_what_goes_on_of_the_headers(house: RunningGateway, every: FakeVllm) -> None:
    """The trace goes on and is recorded; Anthropic's version goes on for messages only; nothing else does."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    own = {"traceparent": trace, "anthropic_version": "2023-06-01", "anthropic_beta": "x", "cookie": "a=b"}
    post(house, "/v1/messages", MESSAGES, **own)
    post(house, "/v1/responses", RESPONSES, **own)
    post(house, "/v1/responses", RESPONSES, traceparent=trace.replace("a", "A"))
    first, second, third = (request.headers for request in every.received)
    assert (first["traceparent"], first["anthropic-version"]) == (trace, "2023-06-01")
    assert second["traceparent"] == trace
    assert not {"anthropic-version", "anthropic-beta", "cookie", "x-api-key"} & second.keys()
    assert "anthropic-beta" not in first
    assert "traceparent" not in third
    assert [record.get("extra") for record in house.frames()] == [{"traceparent": trace}] * 2 + [None]


def test_a_key_as_either_client_sends_it(house: RunningGateway, every: FakeVllm) -> None:
    """`x-api-key` counts like a bearer token, on every endpoint."""
    key = house.key()
    forms = ({"x-api-key": key}, {"authorization": f"Bearer {key}"}, {"authorization": "", "x-api-key": key})
    for path, body in BODIES.items():
        for headers in forms:
            assert house.http.post(path, json=body, headers=headers).status_code == 200
        assert house.http.post(path, json=body, headers={"x-api-key": "sk-safe-wrong"}).status_code == 401


def test_models_as_anthropics_clients_read_them(house: RunningGateway) -> None:
    """A client that sends `anthropic-version` gets Anthropic's list, model and errors on the path both APIs share."""
    headers = {"x-api-key": house.key(), "anthropic-version": "2023-06-01"}
    listed = house.http.get("/v1/models", headers=headers).json()
    assert [(model["id"], model["type"]) for model in listed["data"]] == [("auto", "model"), ("teacher", "model")]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("auto", "teacher", False)
    assert house.http.get("/v1/models/teacher", headers=headers).json()["display_name"] == "teacher"
    assert house.http.get("/v1/models/nobody", headers=headers).json()["error"]["type"] == "not_found_error"
    headers["x-api-key"] = house.key(scope=keys.Scope(models=("gone",)))
    empty: dict[str, Any] = {"data": [], "first_id": None, "last_id": None, "has_more": False}
    assert house.http.get("/v1/models", headers=headers).json() == empty


def test_the_same_idempotency_key_in_flight(house: RunningGateway, vllm: FakeVllm) -> None:
    """While a request is under way its key is taken, for its account only; once it has ended the key is free."""
    vllm.play(Hang())
    body, path = BODIES["/v1/chat/completions"], "/v1/chat/completions"
    own = {"x-api-key": house.key(), "idempotency-key": "k1"}
    others = own | {"x-api-key": house.key("other")}

    def meanwhile(name: str, _: object) -> None:
        if name != "http11.receive_response_headers.started":
            return
        eventually(lambda: len(vllm.received) == 1)
        second = house.http.post(path, json=body, headers=own)
        assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert int(second.headers["retry-after"]) >= 1
        for headers in (own | {"idempotency-key": "k2"}, others):
            assert house.http.post(path, json=body, headers=headers).status_code == 200

    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=house.url, timeout=1.0) as client:
        client.post(path, json=body, headers=own, extensions={"trace": meanwhile})
    assert vllm.received[0].left.wait(1.0)
    assert house.http.post(path, json=body, headers=own).status_code == 200
