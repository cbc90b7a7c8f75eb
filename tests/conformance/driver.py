"""Runs cases with one SDK and prints what its user gets, one JSON object a line; stdlib and that SDK only.

Usage: driver.py openai|anthropic BASE_URL KEY [NAME] <CASES >RESULTS; a case has `id`, `model`, `endpoint`, `stream`,
and optionally `fields` that are added to the request. With NAME, the SDK's conveniences are tried too, on the healthy
models `NAME.ENDPOINT.stream.none`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 48
TIMEOUT_S = 30.0
SHOWN = 60  # characters of a text that are printed
HI = [{"role": "user", "content": "Say hello."}]
ASKED: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": HI},
    "completions": {"prompt": "Say hello."},
    "embeddings": {"input": "hello"},
    "responses": {"input": "Say hello."},
    "messages": {"messages": HI, "max_tokens": 16},
}


def chat_text(answer: Any) -> str:
    """Return the text of a chat completion."""
    return answer.choices[0].message.content or ""


def chat_delta(chunk: Any) -> str:
    """Return the text of a chunk of a chat completion."""
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def completion_text(answer: Any) -> str:
    """Return the text of a completion or of one of its chunks."""
    return "".join(choice.text for choice in answer.choices)


def vector(answer: Any) -> str:
    """Return how many numbers there are."""
    return f"{len(answer.data)} × {len(answer.data[0].embedding)} numbers"


def response_text(answer: Any) -> str:
    """Return the text of a response."""
    return "".join(part.text for item in answer.output if item.type == "message" for part in item.content)


def response_delta(event: Any) -> str:
    """Return the text of an event of a response; the end of a failed one is told too."""
    if event.type in ("response.failed", "response.incomplete", "error"):
        return f"[{event.type}]"
    return event.delta if event.type == "response.output_text.delta" else ""


def message_text(answer: Any) -> str:
    """Return the text of a message."""
    return "".join(block.text for block in answer.content if block.type == "text")


def message_delta(event: Any) -> str:
    """Return the text of an event of a message."""
    return getattr(event.delta, "text", "") if event.type == "content_block_delta" else ""


READERS: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "chat.completions": (chat_text, chat_delta),
    "completions": (completion_text, completion_text),
    "embeddings": (vector, vector),
    "responses": (response_text, response_delta),
    "messages": (message_text, message_delta),
}


def run(client: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Run one case; returns its id, the text that was got, and the exception that the SDK raised, if any."""
    read_whole, read_chunk = READERS[case["endpoint"]]
    resource = client
    for name in case["endpoint"].split("."):
        resource = getattr(resource, name)
    fields = ASKED[case["endpoint"]] | case.get("fields", {}) | ({"stream": True} if case["stream"] else {})
    headers = {"x-request-id": case["id"]}
    parts: list[str] = []
    raised: dict[str, Any] | None = None
    began = time.monotonic()
    try:
        answer = resource.create(model=case["model"], extra_headers=headers, **fields)
        read(answer if case["stream"] else [answer], read_chunk if case["stream"] else read_whole, parts)
    except Exception as error:  # noqa: BLE001 - whatever the SDK's user would meet is the result
        raised = told(error)
    text = "".join(parts)
    shown = text if len(text) <= SHOWN else f"{len(text)} characters"
    return {"id": case["id"], "text": shown, "raised": raised, "seconds": round(time.monotonic() - began, 2)}


def read(items: Iterable[Any], text_of: Callable[[Any], str], parts: list[str]) -> None:
    """Collect the text of answers as they come, so that it is not lost when one fails."""
    for item in items:
        parts.append(text_of(item))


def told(error: Exception) -> dict[str, Any]:
    """Return what an SDK's exception says: class, status, code and message."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    fields = inner if isinstance(inner, dict) else {}
    return {
        "kind": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": fields.get("code") or fields.get("type"),
        "message": str(getattr(error, "message", error)),
    }


def conveniences(client: Any, sdk: str, name: str) -> dict[str, Any]:
    """Try what an SDK has beside its plain calls: lists of models, and helpers that put a stream together."""
    found: dict[str, Any] = {"models": [model.id for model in client.models.list()][:2]}
    if sdk == "anthropic":
        model = f"{name}.messages.stream.none"
        found["model"] = client.models.retrieve(model).display_name == model
        found["tokens"] = client.messages.count_tokens(model=model, messages=HI).input_tokens
        with client.messages.stream(model=model, **ASKED["messages"]) as stream:
            found["helper"] = stream.get_final_text()
        return found
    completions = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with completions(model=f"{name}.chat.completions.stream.none", messages=HI) as stream:
        found["helper"] = stream.get_final_completion().choices[0].message.content
    if hasattr(client, "responses"):
        with client.responses.stream(model=f"{name}.responses.stream.none", input="Say hello.") as stream:
            found["response"] = stream.get_final_response().output_text
    return found


def make_client(sdk: str, base_url: str, key: str) -> Any:
    """Return the SDK's client, without retries of its own: each case is one request."""
    module = importlib.import_module(sdk)
    kind = module.OpenAI if sdk == "openai" else module.Anthropic
    url = f"{base_url}/v1" if sdk == "openai" else base_url
    return kind(base_url=url, api_key=key, max_retries=0, timeout=TIMEOUT_S)


def main() -> None:
    """Run all cases, many at a time; the first line names the SDK's release and what its conveniences gave."""
    sdk, base_url, key, *names = sys.argv[1:]
    client = make_client(sdk, base_url, key)
    found = conveniences(client, sdk, names[0]) if names else {}
    print(json.dumps({"version": importlib.import_module(sdk).__version__, "conveniences": found}), flush=True)
    cases = [json.loads(line) for line in sys.stdin if line.strip()]
    with ThreadPoolExecutor(THREADS) as pool:
        for result in pool.map(lambda case: run(client, case), cases):
            print(json.dumps(result, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
