"""What a key may do: scopes as a running worker applies them, and the ends of keys."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gateway.ledger import keys
from gateway.ledger.identifiers import now
from gateway.ledger.keys import Scope
from tests.fakes import FakeVllm
from tests.gateway.conftest import RunningGateway, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]


def chat(house: RunningGateway, key: str, **fields: Any) -> httpx.Response:
    body = {"model": "teacher", "messages": HI} | fields
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body)


def complete(house: RunningGateway, key: str, **fields: Any) -> httpx.Response:
    body = {"model": "teacher", "prompt": "hi"} | fields
    return house.http.post("/v1/completions", headers={"authorization": f"Bearer {key}"}, json=body)


def models(house: RunningGateway, key: str, name: str = "") -> httpx.Response:
    return house.http.get(f"/v1/models{name}", headers={"authorization": f"Bearer {key}"})


def test_an_endpoint_out_of_scope_is_forbidden(house: RunningGateway, vllm: FakeVllm) -> None:
    """403 in the words that a suspended account gets, recorded; the endpoint in scope serves."""
    key = house.key(scope=Scope(endpoints=("completions",)))
    answer = chat(house, key)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "permission_denied", "permission_denied")
    assert not any(word in answer.text for word in ("scope", "endpoint", "chat"))
    record = house.record()
    assert (record["status"], record["error"], record["endpoint"]) == (403, "permission_denied", "chat.completions")
    assert vllm.received == []
    assert complete(house, key).status_code == 200
    assert models(house, key).status_code == 200


def test_a_model_out_of_scope_does_not_exist(house: RunningGateway) -> None:
    """The same 404 as for a model that nobody has, missing in the list, and no `auto` without what it falls back to."""
    key, all_models = house.key(scope=Scope(models=("other",))), house.key()
    refused, unknown = chat(house, key), chat(house, all_models, model="missing")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert refused.text.replace("teacher", "missing") == unknown.text
    assert chat(house, key, model="auto").status_code == 404
    assert models(house, key).json()["data"] == []
    for name in ("auto", "teacher"):
        assert models(house, key, f"/{name}").status_code == 404
        assert models(house, all_models, f"/{name}").status_code == 200
    key = house.key(scope=Scope(models=("teacher",)))
    assert [model["id"] for model in models(house, key).json()["data"]] == ["auto", "teacher"]
    assert chat(house, key).status_code == chat(house, key, model="auto").status_code == 200


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [11, "11", 1e9, True])
def test_more_output_than_the_scope_is_refused(house: RunningGateway, vllm: FakeVllm, field: str, value: Any) -> None:
    """400 that names the field and what it may be, in every spelling that vLLM would read as a number."""
    answer = chat(house, house.key(scope=Scope(maximum_output=10)), **{field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert "up to 10" in error["message"]
    assert vllm.received == []


def test_output_within_the_scope_goes_on_untouched(house: RunningGateway, vllm: FakeVllm) -> None:
    """What the caller asked for is what the backend gets, to the byte."""
    key = house.key(scope=Scope(maximum_output=10))
    assert chat(house, key, max_tokens=10).status_code == 200
    assert vllm.received[-1].body == {"model": "teacher", "messages": HI, "max_tokens": 10}


@pytest.mark.parametrize("stream", [False, True])
def test_the_scopes_output_is_what_the_backend_is_told(house: RunningGateway, vllm: FakeVllm, stream: bool) -> None:
    """Where the caller named no maximum; the record keeps what the caller said."""
    key = house.key(scope=Scope(maximum_output=10))
    for given in ({}, {"max_tokens": None}):
        assert chat(house, key, stream=stream, **given).status_code == 200
        assert vllm.received[-1].body["max_completion_tokens"] == 10
        assert "max_completion_tokens" not in house.record()["parameters"]


def test_no_answer_gets_longer_by_a_scope(house: RunningGateway, vllm: FakeVllm) -> None:
    """Completions end at 16 tokens where nothing is said, as OpenAI's do; a scope lowers that and never lifts it."""
    for most, told in ((1000, None), (16, None), (10, 10)):
        assert complete(house, house.key(scope=Scope(maximum_output=most))).status_code == 200
        assert vllm.received[-1].body.get("max_tokens") == told


def test_extensions_are_for_keys_that_may(house: RunningGateway, vllm: FakeVllm) -> None:
    """Without the scope 400 `unsupported_parameter`, with it the backend gets them as they came."""
    fields = {"prompt_logprobs": 5, "return_token_ids": True, "logprobs": True, "top_logprobs": 50}
    answer = chat(house, house.key(), **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert chat(house, house.key(scope=Scope(extensions=True)), **fields).status_code == 200
    assert vllm.received[-1].body.items() >= fields.items()


def test_a_key_ends_at_its_moment(house: RunningGateway) -> None:
    """Good until then, 401 from then on, although nobody writes to the control plane."""
    with house.database.write() as connection:
        pepper = keys.ensure_secret(connection, house.settings.data_dir)
        end = now() + timedelta(seconds=0.5)
        _, key = keys.create(connection, pepper, "acme", "test", expires=end)
    house.synchronise()
    assert chat(house, key).status_code == 200
    revision = house.worker.control.current().revision
    time.sleep(max(0.0, (end - now()).total_seconds()))
    answer = chat(house, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "expired" in answer.json()["error"]["message"]
    assert house.worker.control.current().revision == revision


def test_a_rotated_key_and_its_successor_share_an_allowance(house: RunningGateway) -> None:
    """Both are accepted in the grace, and two keys are not twice the requests."""
    old = house.key("rotating", requests_per_minute=4)
    with house.database.write() as connection:
        pepper = keys.ensure_secret(connection, house.settings.data_dir)
        (row,) = keys.every(connection, "rotating")
        _, new = keys.rotate(connection, pepper, row.id, "test", timedelta(hours=1))
    eventually(lambda: models(house, new).status_code == 200)
    answers = [chat(house, key) for key in (old, new, old, new, old, new)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429, 429]
