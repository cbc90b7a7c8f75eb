"""The stock SDKs, new and old, on every endpoint that real vLLM has; the faults are played in tests/conformance."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.suite import DRIVER, SDKS, Sdk
from tests.real.conftest import RealHouse, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
GENERATING = ("chat.completions", "completions", "responses", "messages")
# Greedy and short. A bare prompt is a text to go on with; Anthropic's newest SDK has no `temperature` of its own.
FIELDS: dict[str, dict[str, Any]] = {
    "chat.completions": {"max_completion_tokens": 12, "temperature": 0},
    "completions": {"max_tokens": 12, "temperature": 0, "prompt": "Once upon a time"},
    "responses": {"max_output_tokens": 12, "temperature": 0},
    "messages": {"max_tokens": 12, "extra_body": {"temperature": 0}},
    "embeddings": {},
}
STORY = "Tell me a very long story about a river, a mill and all who ever lived there."
LONG: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": STORY}], "max_tokens": 1500},
    "/v1/completions": {"prompt": STORY, "max_tokens": 1500},
    "/v1/responses": {"input": STORY, "max_output_tokens": 1500},
}


def drive(house: RealHouse, sdk: Sdk, model: str = "teacher") -> dict[str, dict[str, Any]]:
    """Run an SDK on all of its endpoints, whole and streamed, greedily; returns results by endpoint and mode."""
    cases = [
        {
            "id": f"{sdk.name}.{endpoint}.{mode}.{time.time_ns()}",
            "model": model,
            "endpoint": endpoint,
            "stream": mode == "stream",
            "fields": FIELDS[endpoint],
        }
        for endpoint in sdk.endpoints
        for mode in ("whole", "stream")
        if mode == "whole" or endpoint in GENERATING
    ]
    base = house.url.removesuffix("/v1")
    command = [str(sdk.python), str(DRIVER), sdk.package, base, house.key]
    lines = "\n".join(map(json.dumps, cases))
    finished = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=200)
    _, *results = map(json.loads, finished.stdout.splitlines())
    names = {case["id"]: f"{case['endpoint']}.{'stream' if case['stream'] else 'whole'}" for case in cases}
    return {names[result["id"]]: result for result in results}


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
def test_every_sdk_on_every_endpoint(house: RealHouse, sdk: Sdk, require_environment: Callable[[str], Path]) -> None:
    """Streamed and not, the same greedy request gives the same text; every answer is recorded with vLLM's own count."""
    require_environment("bench")
    results = drive(house, sdk)
    for endpoint in sdk.endpoints:
        whole = results[f"{endpoint}.whole"]
        if endpoint == "embeddings":
            # The teacher is a chat model: vLLM has no embeddings for it, which is told as the caller's mistake.
            assert (whole["raised"]["status"], whole["raised"]["code"]) == (400, "unsupported_endpoint")
            continue
        streamed = results[f"{endpoint}.stream"]
        assert (whole["raised"], streamed["raised"]) == (None, None)
        assert whole["text"] == streamed["text"] != ""

    def recorded() -> bool:
        rows = house.command("traffic", "tail", "--limit", "50")
        mine = {row.get("extra", {}).get("request_id"): row for row in rows}
        found = [mine.get(result["id"]) for result in results.values() if result["raised"] is None]
        return all(row and row["usage"]["source"] == "exact" and row["usage"]["output_tokens"] > 0 for row in found)

    wait_for(recorded, 20, "not every answer was recorded with its tokens")


@pytest.mark.parametrize("path", LONG)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_vllm(house: RealHouse, path: str, stream: bool) -> None:
    """Streamed or not, a client that leaves ends the generation: nothing runs on in vLLM.

    Anthropic's form can't be made to go on for long: tests/gateway/test_endpoints.py shows it with the scripted vLLM.
    """
    wait_for(lambda: house.vllm_running() == 0, 30, "vLLM was not idle before the test")
    body = json.dumps(LONG[path] | {"model": "teacher", "stream": stream, "ignore_eos": True}).encode()
    name = f"leaving.{time.time_ns()}"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {house.key}\r\nx-request-id: {name}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", house.port)) as client:
        client.sendall(head.encode() + body)
        wait_for(lambda: house.vllm_running() == 1, 20, "vLLM did not begin")
    wait_for(lambda: house.vllm_running() == 0, 5, "vLLM went on with an answer that nobody waits for")

    def recorded() -> bool:
        rows = house.command("traffic", "tail", "--limit", "20")
        return any(row["status"] == 499 and row.get("extra", {}).get("request_id") == name for row in rows)

    wait_for(recorded, 20, "the request was not recorded as left")


def test_tokens_are_counted(house: RealHouse) -> None:
    """`count_tokens` gives the number that the answer's usage then says, whatever of it came from vLLM's cache."""
    body = {"model": "teacher", "max_tokens": 4, "messages": [{"role": "user", "content": "Name a fruit."}]}
    with httpx.Client(base_url=house.url.removesuffix("/v1"), headers={"x-api-key": house.key}, timeout=60) as client:
        counted = client.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
        usage = client.post("/v1/messages", json=body).json()["usage"]
    cached = usage.get("cache_creation_input_tokens", 0) + usage.get("cache_read_input_tokens", 0)
    assert usage["input_tokens"] + cached == counted
