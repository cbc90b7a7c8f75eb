"""The whole path, driven by the stock SDK and by plain HTTP against a real worker and a scripted vLLM."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from gateway.ledger.frames import Kind
from tests.fakes import Drop, FakeVllm, chat_answer, chat_stream, error_response, event, response, stream_head, usage
from tests.gateway.conftest import RunningGateway

HI: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": "teacher", "messages": HI}


def post(house: RunningGateway, key: str | None = None, **options: Any) -> httpx.Response:
    """Post to chat completions with plain HTTP."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    headers |= options.pop("headers", {})
    path = options.pop("path", "/v1/chat/completions")
    if not options.keys() & {"content", "json"}:
        options["json"] = BODY
    return house.http.post(path, headers=headers, timeout=10, **options)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the error, having checked its form and that the answer has a request id."""
    assert answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


def test_an_answer_and_its_headers(house: RunningGateway) -> None:
    """The SDK gets the backend's answer, and headers that say who answered, why, at what cost."""
    raw = house.client().chat.completions.with_raw_response.create(model="teacher", messages=HI)
    assert raw.parse().choices[0].message.content == "Hello there!"
    assert raw.headers["x-spiritsafe-model"] == "teacher"
    assert raw.headers["x-spiritsafe-route-reason"] == "pinned"
    assert int(raw.headers["x-spiritsafe-cost"]) == 7 * 1000 + 3 * 3000
    assert 0 <= float(raw.headers["x-spiritsafe-overhead-ms"]) < 1000
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["x-request-id"] == house.record()["id"]
    assert "server" not in raw.headers
    assert "x-spiritsafe-queue-ms" not in raw.headers


def test_completions(house: RunningGateway) -> None:
    """/v1/completions is served, streamed and not."""
    client = house.client()
    assert client.completions.create(model="teacher", prompt="Say").choices[0].text == "Hello there!"
    stream = client.completions.create(model="teacher", prompt="Say", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hello there!"
    assert [record["endpoint"] for record in house.frames()] == ["completions", "completions"]
    assert house.record()["prompt"] == "Say"


def test_parameters_tools_and_logprobs_pass_through(house: RunningGateway, vllm: FakeVllm) -> None:
    """Everything that the SDK sends reaches the backend, and everything that comes back reaches the SDK."""
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
    answer = json.loads(chat_answer("teacher", "", tool_calls=[call]).partition(b"\r\n\r\n")[2])
    answer["choices"][0]["logprobs"] = logprobs
    vllm.play(response(json.dumps(answer).encode()))
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    got = house.client().chat.completions.create(
        model="teacher",
        messages=HI,
        tools=tools,
        temperature=0.3,
        logprobs=True,
        top_logprobs=2,
        response_format=schema,
        extra_body={"structured_outputs": {"choice": ["a"]}},
    )
    sent = vllm.received[-1].body
    assert sent["tools"] == tools
    assert (sent["temperature"], sent["top_logprobs"], sent["response_format"]) == (0.3, 2, schema)
    assert sent["structured_outputs"] == {"choice": ["a"]}
    assert got.choices[0].message.tool_calls is not None
    assert got.choices[0].logprobs is not None
    record = house.record()
    assert record["tools"] == ["weather"]
    assert record["response"]["tool_calls"] == [call]
    assert record["parameters"]["response_format"] == schema


def test_answers_pass_byte_for_byte(house: RunningGateway, vllm: FakeVllm) -> None:
    """An answer that was not streamed reaches the client exactly as the backend wrote it."""
    body = b'{ "model":"teacher", "choices":[{"index":0,"message":{"content":"\\u00e9"}}],\n "odd":1.500 }'
    vllm.play(response(body))
    assert post(house, house.key()).content == body


def test_a_backend_gets_nothing_of_the_client_but_the_request(house: RunningGateway, vllm: FakeVllm) -> None:
    """Neither key nor cookies nor the client's own id go on; the id that goes is the record's."""
    post(house, house.key(), headers={"cookie": "a=b", "x-request-id": "mine", "x-spiritsafe-tags": "t"})
    sent = vllm.received[-1].headers
    assert not {"authorization", "cookie", "x-spiritsafe-tags", "user-agent"} & sent.keys()
    assert sent["x-request-id"] == house.record()["id"]


def test_request_ids(house: RunningGateway) -> None:
    """A usable inbound id is kept, on answers and on errors; any other is replaced."""
    key = house.key()
    assert post(house, key, headers={"x-request-id": "job-17"}).headers["x-request-id"] == "job-17"
    assert house.record()["extra"] == {"request_id": "job-17"}
    assert post(house, None, headers={"x-request-id": "job-18"}).headers["x-request-id"] == "job-18"
    assert post(house, key, headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    for path in ("/health", "/ready", "/nowhere", "/v1/models"):
        assert house.http.get(path, headers={"x-request-id": "job-19"}).headers["x-request-id"] == "job-19"


def test_wrong_keys(house: RunningGateway) -> None:
    """An unknown key is the SDK's AuthenticationError; it is counted and not recorded."""
    registry, labels = house.worker.metrics.registry, {"reason": "invalid_api_key"}
    before = registry.get_sample_value("spiritsafe_refusals_total", labels) or 0
    with pytest.raises(openai.AuthenticationError) as caught:
        house.client("sk-safe-wrong").chat.completions.create(model="teacher", messages=HI)
    assert caught.value.code == "invalid_api_key"
    assert error_of(post(house))["code"] == "invalid_api_key"
    assert house.frames() == []
    assert registry.get_sample_value("spiritsafe_refusals_total", labels) == before + 2


def test_unknown_models(house: RunningGateway) -> None:
    """An unknown model is a 404 and a record."""
    with pytest.raises(openai.NotFoundError) as caught:
        house.client().chat.completions.create(model="nobody", messages=HI)
    assert caught.value.code == "model_not_found"
    record = house.record()
    assert (record["status"], record["error"], record["model"]) == (404, "model_not_found", "nobody")
    assert "model_role" not in record


def test_form_is_checked_before_keys(house: RunningGateway) -> None:
    """415 and 413 need no key; what is no JSON is 400."""
    key = house.key()
    assert error_of(post(house, content=b"{}", headers={"content-type": "text/plain"}))["code"] == (
        "unsupported_media_type"
    )
    assert post(house, content=b"{}").status_code == 415
    zipped = {"content-type": "application/json", "content-encoding": "gzip"}
    assert post(house, content=b"{}", headers=zipped).status_code == 415
    big = b" " * (house.settings.gateway.max_body_bytes + 1)
    kind = {"content-type": "application/json"}
    assert error_of(post(house, content=big, headers=kind))["code"] == "request_too_large"
    assert post(house, key, content=iter([big]), headers=kind).status_code == 413
    assert error_of(post(house, key, content=b"{", headers=kind))["type"] == "invalid_request_error"
    assert (
        post(house, key, content=b"[]", headers=kind | {"content-type": "application/json; charset=utf-8"}).status_code
        == 400
    )
    assert [record["status"] for record in house.frames()] == [413, 400, 400]


def test_extensions_are_refused(house: RunningGateway, vllm: FakeVllm) -> None:
    """`prompt_logprobs` never reaches a backend."""
    error = error_of(post(house, house.key(), json=BODY | {"prompt_logprobs": 1}))
    assert (error["code"], error["param"]) == ("unsupported_parameter", "prompt_logprobs")
    assert vllm.received == []


def test_other_paths_and_methods(house: RunningGateway) -> None:
    """Even what does not exist answers in OpenAI's form."""
    for path in ("/docs", "/openapi.json", "/metrics", "/v1/audio/speech", "/v1/chat/completions/"):
        answer = post(house, path=path)
        assert answer.status_code == 404
        assert error_of(answer)["code"] == "unknown_url"
    answer = house.http.get("/v1/chat/completions")
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")


def test_models(house: RunningGateway) -> None:
    """The list has `auto` and the base models; a single one can be asked for."""
    client = house.client()
    assert [model.id for model in client.models.list()] == ["auto", "teacher"]
    assert client.models.retrieve("teacher").id == "teacher"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.AuthenticationError):
        house.client("sk-safe-wrong").models.list()


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (error_response(400, "max_tokens is too large", param="max_tokens"), 400, None),
        (error_response(422, "odd"), 400, None),
        (error_response(400, "This model's maximum context length is 9 tokens."), 400, "context_length_exceeded"),
        (response(b"not json", 400), 400, None),
        (response(b'"text"', 400), 400, None),
        (error_response(460, "a status of some proxy's own"), 400, None),
        (error_response(401, "bad key"), 502, "upstream_error"),
        (error_response(403, "no"), 502, "upstream_error"),
        (error_response(404, "The model does not exist."), 502, "upstream_error"),
        (error_response(500, "secret stack trace"), 502, "upstream_failed"),
        (response(b"", 500), 502, "upstream_failed"),
        (error_response(503, "loading"), 503, "backend_busy"),
        (error_response(429, "queue full"), 503, "backend_busy"),
        (response(b"", 302), 502, "upstream_protocol_error"),
        (response(b"{broken"), 502, "upstream_protocol_error"),
        (response(b"[]"), 502, "upstream_protocol_error"),
        (response(b'{"error": {"message": "secret", "code": 500}}'), 502, "upstream_failed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}", 502, "upstream_disconnected"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_failures_of_a_backend(
    house: RunningGateway, vllm: FakeVllm, script: bytes, status: int, code: str | None, stream: bool
) -> None:
    """Each failure has its status in both modes; a backend's own 400 passes, its credentials and texts do not."""
    for _ in range(2):
        vllm.play(script, *([Drop()] if b"length: 99" in script else []))
    answer = post(house, house.key(), json=BODY | {"stream": stream})
    if stream and code == "upstream_failed" and script.startswith(b"HTTP/1.1 200"):
        code = "upstream_protocol_error"  # JSON is no event: the stream ended before it began
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    record = house.record()
    assert (record["status"], record["cost"]) == (status, 0)
    assert record["error"] == (code or "invalid_request_error")


def test_messages_of_a_backends_400_reach_the_client(house: RunningGateway, vllm: FakeVllm) -> None:
    """The SDK's user reads vLLM's own words, and which parameter is meant."""
    vllm.play(error_response(400, "max_tokens is too large: 9", param="max_tokens"))
    with pytest.raises(openai.BadRequestError) as caught:
        house.client().chat.completions.create(model="teacher", messages=HI)
    assert (caught.value.param, caught.value.type) == ("max_tokens", "invalid_request_error")
    assert "max_tokens is too large: 9" in str(caught.value)


def test_a_dead_backend_is_503_with_a_time(own_house: RunningGateway, own_vllm: FakeVllm) -> None:
    """With no server up the client learns when to come back, and what came before stays recorded."""
    house, key = own_house, own_house.key()
    own_vllm.stop()
    for _ in range(2):
        answer = post(house, key)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "no_healthy_backend")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert [record["status"] for record in house.frames()] == [503, 503]


def test_the_first_broken_connection_is_tried_again(house: RunningGateway, vllm: FakeVllm) -> None:
    """A backend that drops before content is asked once more, with an id of its own."""
    vllm.play(Drop())
    assert post(house, house.key()).status_code == 200
    ids = [request.headers["x-request-id"] for request in vllm.received]
    assert ids == [house.record()["id"], f"{house.record()['id']}-2"]


def test_a_record_is_begun_before_and_complete_before_the_end(house: RunningGateway) -> None:
    """Every forwarded request has a start frame and a final one, both there when the client has its answer."""
    client = house.client()
    client.chat.completions.create(model="teacher", messages=HI, user="u1", metadata={"a": "b"}, store=True, seed=5)
    starts, finals = house.frames(Kind.START), house.frames()
    assert [record["id"] for record in starts] == [record["id"] for record in finals]
    record = finals[0]
    assert record["user"] == "u1"
    assert record["metadata"] == {"a": "b"}
    assert record["store"] is True
    assert record["parameters"] == {"seed": 5}
    assert record["messages"] == HI
    assert record["response"] == {"content": "Hello there!", "choices": 1}
    assert record["usage"] == {"input_tokens": 7, "output_tokens": 3, "source": "exact"}
    assert record["cost"] == record["counterfactual_cost"] == 16000
    assert record["client"]["network"] == "127.0.0.0/24"


def test_no_log_keeps_the_content_out(house: RunningGateway) -> None:
    """With x-spiritsafe-no-log neither prompt nor answer is on disk, only the fingerprint made of them."""
    words = {"messages": [{"role": "user", "content": "my secret wish"}], "stop": ["secret"]}
    post(house, house.key(), json=BODY | words, headers={"x-spiritsafe-no-log": "true", "x-spiritsafe-tags": "a, b"})
    post(house, house.key(), json=BODY | words, headers={"x-spiritsafe-no-log": "1", "x-spiritsafe-stakes": "hihg"})
    first, refused = house.frames()
    assert not {"messages", "response", "prompt"} & first.keys()
    assert (len(first["fingerprint"]["minhash"]), len(first["fingerprint"]["embedding"])) == (512, 256)  # hexadecimal
    assert first["tags"] == ["a", "b"]
    assert refused["status"] == 400
    stored = b"".join(path.read_bytes() for path in (house.settings.data_dir / "spool" / "w0").glob("*.seg"))
    assert b"secret" not in stored


def test_usage_details_are_kept(house: RunningGateway, vllm: FakeVllm) -> None:
    """Cached and reasoning tokens stand in the record where the backend tells them."""
    spent: Any = usage(100, 20) | {
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    vllm.play(chat_answer("teacher", "x", spent, reasoning="hm"))
    post(house, house.key())
    record = house.record()
    assert record["usage"] == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 64,
        "reasoning_tokens": 5,
        "source": "exact",
    }
    assert record["response"]["reasoning"] == "hm"


def test_overlapping_requests_do_not_mix(house: RunningGateway, vllm: FakeVllm) -> None:
    """Fifty streams at once each get their own words and their own record."""
    vllm.always(lambda request: chat_stream("teacher", [request.body["messages"][0]["content"], "!"], pause_s=0.02))
    key = house.key()

    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        body = BODY | {"messages": [{"role": "user", "content": f"word-{number}"}], "stream": True}
        answer = await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        return f'"word-{number}"' in answer.text and answer.text.endswith("data: [DONE]\n\n")

    async def ask_all() -> list[bool]:
        async with httpx.AsyncClient(base_url=house.url, timeout=30, limits=httpx.Limits(max_connections=50)) as client:
            return list(await asyncio.gather(*(ask(client, number) for number in range(50))))

    assert all(asyncio.run(ask_all()))
    texts = {record["messages"][0]["content"]: record["response"]["content"] for record in house.frames()}
    assert texts == {f"word-{number}": f"word-{number}!" for number in range(50)}


def test_an_error_of_ours_is_a_500_with_the_id(own_house: RunningGateway) -> None:
    """A bug gives a generic text and the request id, and the request is recorded."""

    def explode(*_: object) -> None:
        raise RuntimeError("secret detail")

    house, key = own_house, own_house.key()
    object.__setattr__(house.worker.pipeline, "catalogue", explode)
    answer = post(house, key, headers={"x-request-id": "job-20"})
    assert answer.status_code == 500
    assert "job-20" in error_of(answer)["message"]
    assert "secret" not in answer.text
    assert house.record()["error"] == "internal_error"


def test_a_stream_whose_first_event_is_an_error(house: RunningGateway, vllm: FakeVllm) -> None:
    """An error object inside a 200 stream, before content, is a real status for the client."""
    failure = {"error": {"message": "bad grammar", "type": "BadRequestError", "param": None, "code": 400}}
    vllm.play(stream_head(), event(failure), event("[DONE]"), b"0\r\n\r\n")
    answer = post(house, house.key(), json=BODY | {"stream": True})
    assert (answer.status_code, error_of(answer)["message"]) == (400, "bad grammar")
