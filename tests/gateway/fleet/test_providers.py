"""Models of other providers: the real litellm against a scripted provider of OpenAI's shape and one of Anthropic's."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.fleet.providers import Provider
from gateway.settings import ModelSettings, Settings, SettingsError
from tests.fakes import FakeVllm, Hang, Script, error_response, fake_vllm, framed, response, stream_head
from tests.gateway.conftest import RunningGateway, eventually, running_gateway

# Looked for and not imported, which would take every run of any test seconds.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="needs the extra `litellm`")

HI: list[Any] = [{"role": "user", "content": "hi"}]
SECRET = "sk-of-the-provider"


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeVllm]:
    """A scripted provider; it answers like OpenAI where no script is set."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway whose teacher is served by OpenAI and whose `claude` by Anthropic."""
    plain = ModelSettings("teacher", input_price=1.0, output_price=3.0, api_key_env="PROVIDER_KEY")
    models = (
        dataclasses.replace(plain, provider="openai/gpt-x", api_base=f"{provider.url}/v1"),
        dataclasses.replace(plain, name="claude", provider="anthropic/claude-x", api_base=provider.url),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVIDER_KEY", SECRET)
        with running_gateway(Settings(data_dir=tmp_path_factory.mktemp("house"), models=models)) as running:
            running.account()
            yield running


@pytest.fixture
def house(served: RunningGateway, provider: FakeVllm) -> RunningGateway:
    """The gateway, with nothing left of the test before."""
    provider.forget()
    served.hide_frames()
    served.worker.fleet.provided.clear()
    served.worker._on_load(served.worker.control.current())
    return served


def anthropic_answer() -> bytes:
    """Return an answer as Anthropic words it."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello there!"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }
    return response(json.dumps(body).encode())


def anthropic_stream() -> Script:
    """Return a stream as Anthropic sends it."""
    usage = {"input_tokens": 7, "output_tokens": 1}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "usage": usage,
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " there!"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    sent = [framed(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()) for event in events]
    return [stream_head(), *sent, b"0\r\n\r\n"]


@pytest.mark.parametrize(("model", "path"), [("teacher", "/v1/chat/completions"), ("claude", "/v1/messages")])
def test_a_whole_answer(house: RunningGateway, provider: FakeVllm, model: str, path: str) -> None:
    """In OpenAI's form under our name of the model, at our prices, with the provider's usage in the record."""
    if model == "claude":
        provider.play(anthropic_answer())
    answer = house.client().chat.completions.with_raw_response.create(model=model, messages=HI, max_tokens=9)
    said = answer.parse()
    assert (said.model, said.choices[0].message.content, said.choices[0].finish_reason) == (
        model,
        "Hello there!",
        "stop",
    )
    assert int(answer.headers["x-spiritsafe-cost"]) == 7 * 1000 + 3 * 3000
    (received,) = provider.received
    assert (received.path, received.body["max_tokens"]) == (path, 9)
    assert SECRET in (received.headers.get("x-api-key", "") + received.headers.get("authorization", ""))
    record = house.record()
    assert (record["model"], record["usage"]["source"], record["cost"]) == (model, "exact", 16000)


@pytest.mark.parametrize("model", ["teacher", "claude"])
@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream(house: RunningGateway, provider: FakeVllm, model: str, wants_usage: bool) -> None:
    """Chunk by chunk, with a usage chunk for those who ask, and its cost in the record."""
    if model == "claude":
        provider.play(*anthropic_stream())
    options: Any = {"include_usage": True} if wants_usage else openai.NOT_GIVEN
    chunks = list(house.client().chat.completions.create(model=model, messages=HI, stream=True, stream_options=options))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Hello there!"
    assert {chunk.model for chunk in chunks} == {model}
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    usages = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert usages == ([3] if wants_usage else [])
    assert (house.record()["usage"]["output_tokens"], house.record()["cost"]) == (3, 16000)


@pytest.mark.parametrize("stream", [True, False])
def test_a_text_completion(house: RunningGateway, provider: FakeVllm, stream: bool) -> None:
    """The older endpoint works where the provider has it."""
    key = house.key()
    body = {"model": "teacher", "prompt": "Hello", "stream": stream}
    answer = house.http.post("/v1/completions", headers={"authorization": f"Bearer {key}"}, json=body)
    assert answer.status_code == 200
    assert "there!" in answer.text
    assert provider.received[-1].path == "/v1/completions"
    assert house.record()["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [
        (400, 400, None),
        (401, 502, "upstream_error"),
        (404, 502, "upstream_error"),
        (429, 503, "backend_busy"),
        (500, 502, "upstream_failed"),
        (503, 503, "backend_busy"),
    ],
)
def test_errors_are_those_of_a_backend(
    house: RunningGateway, provider: FakeVllm, status: int, ours: int, code: str | None
) -> None:
    """A refusal of the request passes; what is about us does not, and no error names key, library or address."""
    provider.always(lambda _: [error_response(status, f"the provider's words about {SECRET[:5]}")])
    answer = ask(house)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (ours, code)
    assert ("the provider's words" in error["message"]) == (status == 400)
    for secret in (SECRET, "litellm", provider.url):
        assert secret not in answer.text


def ask(house: RunningGateway, **fields: Any) -> httpx.Response:
    """Send a request and return the answer as it is."""
    body = {"model": "teacher", "messages": HI} | fields
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {house.key()}"}, json=body)


@pytest.mark.parametrize(
    "fields", [{"api_base": "http://thief"}, {"base_url": "http://thief"}, {"mock_response": "x"}, {"top_k": 3}]
)
def test_only_openais_fields_reach_the_library(
    house: RunningGateway, provider: FakeVllm, fields: dict[str, Any]
) -> None:
    """Others of its arguments would send our key wherever a caller likes."""
    answer = ask(house, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert answer.json()["error"]["param"] == next(iter(fields))
    assert provider.received == []


def test_no_picture_is_fetched_from_here(house: RunningGateway, provider: FakeVllm) -> None:
    """A caller must not make the gateway visit addresses of its own network."""
    picture = {"type": "image_url", "image_url": {"url": f"{provider.url}/health"}}
    answer = ask(house, model="claude", messages=[{"role": "user", "content": [picture]}])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert (provider.received, provider.probes) == ([], [])


def test_a_client_that_leaves_ends_the_providers_stream(house: RunningGateway, provider: FakeVllm) -> None:
    """As it does with vLLM."""
    provider.play(*list(anthropic_stream())[:4], Hang())
    stream = house.client().chat.completions.create(model="claude", messages=HI, stream=True)
    next(iter(stream))
    stream.close()
    assert provider.received[-1].left.wait(5.0)
    eventually(lambda: house.record()["status"] == 499)


def test_providers_are_not_polled(house: RunningGateway, provider: FakeVllm) -> None:
    """Their health is known from requests only, and their models are listed like any other."""
    ask(house)
    assert house.worker.fleet.backends == {}
    assert provider.probes == []
    assert [model.id for model in house.client().models.list()] == ["auto", "teacher", "claude"]


def test_a_stolen_release_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is imported."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.82.7")
    with pytest.raises(SettingsError, match="steals credentials"):
        Provider("openai/x", "x")


def test_a_missing_key_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    """Found at the start, not by the first caller."""
    model = ModelSettings("teacher", provider="openai/x", api_key_env="NOT_THERE")
    with (
        pytest.raises(SettingsError, match="NOT_THERE, which is not set"),
        running_gateway(Settings(data_dir=tmp_path, models=(model,))),
    ):
        pass


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"input": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
        ("/v1/messages", {"messages": HI, "max_tokens": 5}),
    ],
)
def test_an_endpoint_that_no_provider_is_asked_for(
    house: RunningGateway, provider: FakeVllm, path: str, fields: dict[str, Any]
) -> None:
    """It is told as such, and not as a mistake in one of its fields; nothing reaches the provider."""
    headers = {"authorization": f"Bearer {house.key()}"}
    answer = house.http.post(path, headers=headers, json={"model": "claude"} | fields)
    assert answer.status_code == 400
    assert "does not serve this endpoint" in answer.json()["error"]["message"]
    assert house.record()["error"] == "unsupported_endpoint"
    assert provider.received == []
