"""The stock OpenAI client against the gateway in front of real vLLM: only `base_url` was changed."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.real.conftest import RealHouse, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CALL = {"id": "call-1", "type": "function", "function": {"name": "set_timer", "arguments": '{"minutes": 5}'}}
QUESTION = [{"role": "user", "content": "Name three kinds of fruit."}]


def test_chat_answers_and_the_headers_say_who_and_why(house: RealHouse) -> None:
    """An answer carries its text and usage; headers name the model, the reason, the cost and the request."""
    raw = house.client().chat.completions.with_raw_response.create(model="auto", messages=QUESTION, max_tokens=12)
    completion = raw.parse()
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0
    assert raw.headers["x-spiritsafe-model"] == "teacher"
    assert raw.headers["x-spiritsafe-route-reason"] == "no_student"
    cost = completion.usage.prompt_tokens * 1000 + completion.usage.completion_tokens * 3000  # nano-dollars
    assert int(raw.headers["x-spiritsafe-cost"]) == cost
    assert raw.headers["x-request-id"]


def test_stream_gives_the_same_text_as_the_whole_answer(house: RealHouse) -> None:
    """Streamed and not, the same greedy request gives the same text; usage is not shown unasked."""
    request = {"model": "teacher", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    whole = house.client().chat.completions.create(**request).choices[0].message.content
    chunks = list(house.client().chat.completions.create(**request, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_in_the_stream_where_it_is_asked_for(house: RealHouse) -> None:
    """`include_usage` gives exactly one last chunk without choices, with the usage of the whole."""
    stream = house.client().chat.completions.create(
        model="teacher", messages=QUESTION, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    *content, last = list(stream)
    assert all(chunk.choices for chunk in content)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_tools_pass_through(house: RealHouse) -> None:
    """Declared tools, calls and results reach vLLM as they are: the answer is the one that vLLM gives directly."""
    tool = {
        "type": "function",
        "function": {
            "name": "set_timer",
            "parameters": {
                "type": "object",
                "properties": {"minutes": {"type": "integer", "enum": [5, 10]}},
                "required": ["minutes"],
                "additionalProperties": False,
            },
        },
    }
    request: dict[str, Any] = {
        "model": "teacher",
        "messages": [
            {"role": "user", "content": "Set a timer for five minutes."},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call-1", "content": "The timer runs."},
        ],
        "tools": [tool],
        "tool_choice": "auto",
        "temperature": 0,
        "max_tokens": 24,
    }
    through = house.client().chat.completions.create(**request)
    direct: Any = openai.OpenAI(base_url=f"http://127.0.0.1:{house.vllm_port}/v1", api_key="none")
    assert through.choices[0].message == direct.chat.completions.create(**request).choices[0].message

    def recorded() -> bool:
        return any(row.get("tools") == ["set_timer"] for row in house.command("traffic", "tail", "--limit", "20"))

    wait_for(recorded, 20, "the declared tool was not recorded")


def test_json_schema_passes_through(house: RealHouse) -> None:
    """A JSON schema constrains the answer."""
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    completion = house.client().chat.completions.create(
        model="teacher",
        messages=[{"role": "user", "content": "Red or blue? Answer in JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "choice", "schema": schema}},
        max_tokens=24,
    )
    assert json.loads(completion.choices[0].message.content or "")["colour"] in ("red", "blue")


def test_logprobs_pass_through(house: RealHouse) -> None:
    """Log-probabilities of each token and its alternatives arrive as vLLM gives them."""
    completion = house.client().chat.completions.create(
        model="teacher", messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=3
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    assert all(len(token.top_logprobs) == 3 for token in logprobs.content)


def test_legacy_completions(house: RealHouse) -> None:
    """`/v1/completions` works, streamed and not."""
    request = {"model": "teacher", "prompt": "One, two, three,", "max_tokens": 6, "temperature": 0}
    whole = house.client().completions.create(**request).choices[0].text
    chunks = list(house.client().completions.create(**request, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole


def test_wrong_key_is_401_and_nothing_else(house: RealHouse) -> None:
    """An unknown key raises the SDK's AuthenticationError with OpenAI's code."""
    with pytest.raises(openai.AuthenticationError) as error:
        house.client("sk-safe-unknown").chat.completions.create(model="auto", messages=QUESTION)
    assert error.value.code == "invalid_api_key"


def test_unknown_model_is_404(house: RealHouse) -> None:
    """An unknown model raises NotFoundError with OpenAI's code."""
    with pytest.raises(openai.NotFoundError) as error:
        house.client().chat.completions.create(model="nobody", messages=QUESTION)
    assert error.value.code == "model_not_found"


def test_too_long_a_prompt_is_vllms_own_400(house: RealHouse) -> None:
    """What vLLM refuses with 400 reaches the client as 400, with vLLM's words."""
    with pytest.raises(openai.BadRequestError, match=r"context length|max_model_len|tokens"):
        house.client().chat.completions.create(
            model="teacher", messages=[{"role": "user", "content": "word " * 4000}], max_tokens=8
        )


def test_cancelled_stream_frees_vllm(house: RealHouse) -> None:
    """A client that leaves aborts the generation: vLLM's running requests fall to zero, and 499 is recorded."""
    stream = house.client().chat.completions.create(
        model="teacher", messages=QUESTION, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
    )
    for _ in range(3):
        next(stream)
    assert house.vllm_running() == 1
    stream.close()
    wait_for(lambda: house.vllm_running() == 0, 10, "vLLM went on with a stream that nobody reads")

    def recorded() -> bool:
        rows = house.command("traffic", "tail", "--limit", "20")
        return any(row["status"] == 499 and row["usage"]["output_tokens"] >= 1 for row in rows)

    wait_for(recorded, 20, "the cancelled stream was not recorded as 499 with its tokens")
