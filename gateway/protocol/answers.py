"""What a backend answered: text, tool calls, usage and how it ended, of a whole answer or chunk by chunk."""

from __future__ import annotations

import json
from typing import Any

import orjson

from gateway.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamProtocol,
    UpstreamRefusedUs,
    UpstreamRejected,
)

_CONTENT = ("content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal")


class Answer:
    """Collects an answer. Of several choices the text of the first is kept, and their number.

    `usage` is the backend's last word on it (None: it gave none); `content_chunks` is what counting has to go by then.
    """

    def __init__(self) -> None:
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.choices = 0
        self.content_chunks = 0
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}

    def add_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take a chunk of a stream; True when it has content that a client would see."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        if self._add_word(chunk.get("choices")):
            return True
        seen = False
        for choice in _objects(chunk.get("choices")):
            seen = self._add_choice(choice, choice.get("delta")) or seen
        self.content_chunks += seen
        return seen

    def _add_word(self, choices: object) -> bool:
        """Take the commonest chunk, of which streams consist: one choice, and nothing but some text in it."""
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        if choice.get("index") != 0 or choice.get("finish_reason") or not isinstance(delta, dict) or len(delta) != 1:
            return False
        content = delta.get("content")
        if not isinstance(content, str) or not content:
            return False
        self._content.append(content)
        self.choices = self.choices or 1
        self.content_chunks += 1
        return True

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take an answer that was not streamed."""
        usage = body.get("usage")
        self.usage = usage if isinstance(usage, dict) else None
        for choice in _objects(body.get("choices")):
            self._add_choice(choice, choice.get("message"))

    def response(self) -> dict[str, Any]:
        """Return the record's `response`."""
        response: dict[str, Any] = {
            "content": "".join(self._content) if self._content else None,
            "choices": self.choices,
        }
        if self._reasoning:
            response["reasoning"] = "".join(self._reasoning)
        if self._tool_calls:
            response["tool_calls"] = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        return response

    def _add_choice(self, choice: dict[str, Any], message: object) -> bool:
        index = choice.get("index") or 0
        self.choices = max(self.choices, index + 1 if isinstance(index, int) else 1)
        part = message if isinstance(message, dict) else {}
        if index == 0:
            self._keep(choice, part)
        ended = choice.get("finish_reason") is not None
        return bool(choice.get("text")) or ended or any(part.get(name) for name in _CONTENT)

    def _keep(self, choice: dict[str, Any], part: dict[str, Any]) -> None:
        content, reasoning = (
            part.get("content") or choice.get("text"),
            part.get("reasoning") or part.get("reasoning_content"),
        )
        if isinstance(content, str):
            self._content.append(content)
        if isinstance(reasoning, str):
            self._reasoning.append(reasoning)
        for position, call in enumerate(_objects(part.get("tool_calls"))):
            self._keep_call(call.get("index", position), call)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = reason

    def _keep_call(self, index: Any, call: dict[str, Any]) -> None:
        known = self._tool_calls.setdefault(
            index if isinstance(index, int) else 0, {"type": "function", "function": {}}
        )
        function = call.get("function")
        for name, value in (function if isinstance(function, dict) else {}).items():
            # A stream sends the name once and the arguments in pieces.
            before = known["function"].get(name)
            joined = (
                before + value if name == "arguments" and isinstance(before, str) and isinstance(value, str) else value
            )
            known["function"][name] = joined
        if call.get("id"):
            known["id"] = call["id"]


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def parse_object(payload: bytes) -> dict[str, Any]:
    """Read a JSON object of the backend's; `UpstreamProtocol` when it is none."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise UpstreamProtocol("The model's server sent something that is no JSON object.")
    return value


def error_in_stream(chunk: dict[str, Any]) -> GatewayError | None:
    """Return the error that a chunk with a truthy `error` stands for, or None."""
    error = chunk.get("error")
    if not error:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, int) and 400 <= status < 500:
        return upstream_refusal(status, json.dumps(chunk).encode(), None)
    return UpstreamFailed("The model's server failed while it was answering.")


def upstream_refusal(status: int, body: bytes, retry_after: float | None) -> GatewayError:
    """Return the error for a backend's answer that is no success.

    Its own 4xx pass through, those about us (our credential, a model it does not serve) do not; texts of 5xx stay here.
    """
    if status == 429 or status == 503:
        return UpstreamBusy("The model's servers are busy: try again shortly.", retry_after=retry_after or 2.0)
    if status in (401, 403, 404, 405, 407):
        return UpstreamRefusedUs(
            "The model's server refused the gateway: the operator has to mend the backend's settings."
        )
    if 400 <= status < 500:
        return _rejected(status, body)
    if status >= 500:
        return UpstreamFailed(f"The model's server failed (status {status}).")
    return UpstreamProtocol(f"The model's server answered with status {status}, which has no meaning here.")


def _rejected(status: int, body: bytes) -> UpstreamRejected:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = {}
    error = document.get("error", document) if isinstance(document, dict) else {}
    fields = error if isinstance(error, dict) else {"message": str(error)}
    message = fields.get("message") or fields.get("detail") or "The model's server refused the request."
    param, code = fields.get("param"), fields.get("code")
    code = code if isinstance(code, str) else None
    if code is None and "maximum context length" in str(message):
        code = "context_length_exceeded"
    # vLLM names a parameter by its place in the body, OpenAI by its name.
    param = param.removeprefix("body.") if isinstance(param, str) else None
    return UpstreamRejected(status, str(message), param=param, code=code)
