"""The bytes of the benchmarks: a request of 1 KB, an answer of 1 KB, and a stream of 103 chunks, in vLLM's own form."""

from __future__ import annotations

import json
from typing import Any

MODEL = "teacher"
PROMPT_TOKENS = 210
WHOLE_TOKENS = 120
WORDS = 100


def request_body(*, stream: bool = False, unique: str = "", tokens: int | None = None, model: str = MODEL) -> bytes:
    """Return a chat request of about 1 KB; with `tokens` a real model generates exactly so many."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You answer the customers of a bicycle shop, briefly and kindly. " * 4},
            {"role": "user", "content": f"{unique}My rear wheel wobbles when I brake downhill. " * 13},
        ],
        "temperature": 0.2,
        "max_tokens": 128 if tokens is None else tokens,
    }
    if tokens is not None:
        body["ignore_eos"] = True
    if stream:
        body["stream"] = True
    return json.dumps(body).encode()


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _usage(output: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS + output, "completion_tokens": output}


def _event(choices: list[dict[str, Any]], output: int) -> bytes:
    chunk = {
        "id": "chatcmpl-8d4f0c52b1a94c0f",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": MODEL,
        "choices": choices,
        "usage": _usage(output),
    }
    data = b"data: " + _compact(chunk) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, "token_ids": None}]


ANSWER = _compact(
    {
        "id": "chatcmpl-8d4f0c52b1a94c0f",
        "object": "chat.completion",
        "created": 1764000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The wheel wants truing. " * 26, "tool_calls": []},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        "usage": _usage(WHOLE_TOKENS),
        "prompt_logprobs": None,
    }
)
MODELS = _compact({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm"}]})
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
CHUNKS = [
    _event(_choice({"role": "assistant", "content": ""}), 0),
    *(_event(_choice({"content": f" word{number}"}), number) for number in range(1, WORDS + 1)),
    _event(_choice({"content": ""}, "stop"), WORDS),
    _event([], WORDS),
]
END_OF_STREAM = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
