"""What vLLM 0.32 answers on each endpoint, as its source writes it: bodies, and streams as lists of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes import (
    Received,
    Script,
    chat_answer,
    chat_stream,
    framed,
    response,
    stream_head,
    text_answer,
    text_stream,
)

LAST = b"0\r\n\r\n"
WORDS = ("Hello", " there", "!")


def named(payload: dict[str, Any]) -> bytes:
    """Return an event that has its type as name, as one HTTP chunk."""
    data = json.dumps(payload, separators=(",", ":"))
    return framed(f"event: {payload['type']}\ndata: {data}\n\n".encode())


def embeddings_answer(model: str, count: int = 1, vector: Any = "AACAPwAAAEA=") -> bytes:
    """Return vectors of two numbers each."""
    data = [{"index": index, "object": "embedding", "embedding": vector} for index in range(count)]
    spent = {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0, "prompt_tokens_details": None}
    body = {"id": "embd-fake", "object": "list", "created": 1, "model": model, "data": data, "usage": spent}
    return response(json.dumps(body).encode())


def message(model: str, content: list[dict[str, Any]], spent: dict[str, int], **fields: Any) -> dict[str, Any]:
    """Return a message of Anthropic's form."""
    found = {"id": "chatcmpl-fake", "type": "message", "role": "assistant", "content": content, "model": model}
    return found | {"stop_reason": "end_turn", "usage": spent} | fields


def messages_answer(model: str, text: str = "Hello there!") -> bytes:
    """Return a message with one text block."""
    spent = {"input_tokens": 7, "output_tokens": 3}
    return response(json.dumps(message(model, [{"type": "text", "text": text}], spent)).encode())


def messages_stream(model: str, words: Sequence[str] = WORDS) -> list[bytes]:
    """Return the events of a message: start, one block of text, the reason and usage, the end."""
    begun = message(model, [], {"output_tokens": 0, "input_tokens": 7}, stop_reason=None, stop_sequence=None)
    deltas = [
        named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
        for word in words
    ]
    spent = {"output_tokens": len(words), "input_tokens": 7}
    reason = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        stream_head(),
        named({"type": "message_start", "message": begun}),
        named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *deltas,
        named({"type": "content_block_stop", "index": 0}),
        named({"type": "message_delta", "delta": reason, "usage": spent}),
        named({"type": "message_stop"}) + LAST,
    ]


def a_response(model: str, output: list[dict[str, Any]], status: str, spent: dict[str, Any] | None) -> dict[str, Any]:
    """Return a response with those output items."""
    fixed = {"id": "resp_fake", "created_at": 1, "object": "response", "model": model, "parallel_tool_calls": True}
    asked = {"temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "background": False}
    limits = {"max_output_tokens": 100, "service_tier": "auto", "truncation": "disabled", "incomplete_details": None}
    return fixed | asked | limits | {"output": output, "status": status, "usage": spent}


def response_usage(prompt: int = 7, made: int = 3) -> dict[str, Any]:
    """Return usage of the Responses API."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + made,
    }


def output_message(text: str) -> dict[str, Any]:
    """Return an output item with a text."""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    return {"id": "msg_fake", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def responses_answer(model: str, text: str = "Hello there!") -> bytes:
    """Return a completed response with one message."""
    body = a_response(model, [output_message(text)], "completed", response_usage())
    return response(json.dumps(body).encode())


def responses_stream(model: str, words: Sequence[str] = WORDS) -> list[bytes]:
    """Return the events of a response with one message."""
    begun = a_response(model, [], "in_progress", None)
    item = output_message("") | {"status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    place = {"item_id": "msg_fake", "output_index": 0, "content_index": 0}
    text = "".join(words)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part | {"text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": output_message(text)},
    ]
    whole = a_response(model, [output_message(text)], "completed", response_usage(made=len(words)))
    events.append({"type": "response.completed", "response": whole})
    numbered = [named(event | {"sequence_number": number}) for number, event in enumerate(events)]
    return [stream_head(), *numbered[:-1], numbered[-1] + LAST]


def answer_any_endpoint(request: Received) -> Script:
    """Answer "Hello there!" in the form of the endpoint that was asked."""
    model, stream = request.body["model"], bool(request.body.get("stream"))
    if request.path == "/v1/embeddings":
        asked = request.body["input"]
        return [embeddings_answer(model, len(asked) if isinstance(asked, list) else 1, _vector(request))]
    if request.path == "/v1/messages/count_tokens":
        return [response(b'{"input_tokens":7,"context_management":{"original_input_tokens":7}}')]
    streamed, whole = _MAKERS[request.path]
    return streamed(model) if stream else [whole(model)]


def _vector(request: Received) -> Any:
    return "AACAPwAAAEA=" if request.body.get("encoding_format") == "base64" else [1.0, 2.0]


_MAKERS: dict[str, tuple[Any, Any]] = {
    "/v1/chat/completions": (lambda m: chat_stream(m, WORDS), lambda m: chat_answer(m, "Hello there!")),
    "/v1/completions": (lambda m: text_stream(m, ["Hello", " there!"]), lambda m: text_answer(m, "Hello there!")),
    "/v1/messages": (messages_stream, messages_answer),
    "/v1/responses": (responses_stream, responses_answer),
}
