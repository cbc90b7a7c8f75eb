"""`/v1/messages`, Anthropic's form: content in blocks, events with names, errors of its own."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import BadRequest, GatewayError
from gateway.protocol.answers import Answer, Usage, count, objects
from gateway.protocol.dialects.denied import check_denied, check_messages
from gateway.protocol.dialects.dialect import Dialect, ErrorForm
from gateway.protocol.sse import named_event

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


class MessagesAnswer(Answer):
    """Collects an answer in content blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[int, dict[str, Any]] = {}  # calls of tools, their arguments as text
        self._begun: dict[str, Any] = {}  # usage as the stream's first event had it

    def add_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take an event of a stream; True when it has content that a client would see."""
        kind = chunk.get("type")
        if kind == "content_block_delta":
            return self._add_delta(chunk.get("index"), chunk.get("delta"))
        if kind == "content_block_start":
            self._begin_block(chunk.get("index"), chunk.get("content_block"))
        elif kind == "message_start":
            self._begin(chunk.get("message"))
        elif kind == "message_delta":
            self._end(chunk.get("delta"), chunk.get("usage"))
        return False

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take an answer that was not streamed."""
        self.choices = 1
        self._end(body, body.get("usage"))
        for index, block in enumerate(objects(body.get("content"))):
            self._keep_text(block.get("text"), block.get("thinking"))
            if block.get("type") == "tool_use":
                self._begin_block(index, block)
                self._blocks[index]["arguments"] = _text_of_json(block.get("input"))

    def _begin(self, message: object) -> None:
        self.choices = 1
        usage = message.get("usage") if isinstance(message, dict) else None
        if isinstance(usage, dict):
            self._begun, self.prompt_tokens = usage, self._exact(usage)["input_tokens"]

    def _begin_block(self, index: object, block: object) -> None:
        if isinstance(index, int) and isinstance(block, dict) and block.get("type") == "tool_use":
            self._blocks[index] = {"id": block.get("id"), "name": block.get("name"), "arguments": ""}

    def _add_delta(self, index: object, delta: object) -> bool:
        part = delta if isinstance(delta, dict) else {}
        text, thinking, arguments = part.get("text"), part.get("thinking"), part.get("partial_json")
        self._keep_text(text, thinking)
        if isinstance(arguments, str) and isinstance(index, int) and index in self._blocks:
            self._blocks[index]["arguments"] += arguments
        seen = bool(text or thinking or arguments)
        self.content_chunks += seen
        return seen

    def _end(self, delta: object, usage: object) -> None:
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(reason, str):
            self.finish_reason = _FINISH_REASONS.get(reason, reason)
        if isinstance(usage, dict):
            # Counts are totals; what the last word leaves out stands in the first.
            self._reported = {**self._begun, **usage}

    def _exact(self, reported: dict[str, Any]) -> Usage:
        cached = count(reported, "cache_read_input_tokens")
        # Anthropic does not count what the cache saved or took among the input.
        others = (cached or 0) + (count(reported, "cache_creation_input_tokens") or 0)
        return {
            "input_tokens": (count(reported, "input_tokens") or 0) + others,
            "output_tokens": count(reported, "output_tokens") or 0,
            "cached_tokens": cached,
        }

    def _calls(self) -> list[dict[str, Any]]:
        return [_call(block["id"], block["name"], block["arguments"]) for _, block in sorted(self._blocks.items())]


def check(body: dict[str, Any], extensions: bool) -> None:
    """Check what we look at of a messages request."""
    check_messages(body)
    if not extensions:
        check_denied(body)
    if not isinstance(body.get("metadata"), (dict, type(None))):
        raise BadRequest("'metadata' must be an object.", param="metadata")


def error_body(error: GatewayError, request_id: str) -> bytes:
    """Return Anthropic's error body."""
    kind = _ERROR_TYPES.get(error.answer_status) or (
        "invalid_request_error" if error.answer_status < 500 else "api_error"
    )
    body = {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
    return json.dumps(body).encode()


def subject(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body as one of chat completions: the system prompt a message, blocks as parts, calls and results."""
    named = {name: body[name] for name in body if name not in ("system", "messages", "stop_sequences", "output_config")}
    found: dict[str, Any] = {**named, "messages": _conversation(body)}
    if body.get("stop_sequences"):
        found["stop"] = body["stop_sequences"]
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        # Anthropic has one field here, and it may be null; OpenAI's pairs are texts.
        found["metadata"] = {name: value for name, value in metadata.items() if isinstance(value, str)}
        found["user"] = metadata.get("user_id")
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, dict) else None
    if isinstance(form, dict):
        found["response_format"] = {"type": "json_schema", "json_schema": {"schema": form.get("schema")}}
    return found


def _conversation(body: dict[str, Any]) -> list[dict[str, Any]]:
    system = body.get("system")
    found: list[dict[str, Any]] = [{"role": "system", "content": _parts(system)}] if system else []
    for message in objects(body.get("messages")):
        found += _messages(message.get("role"), message.get("content"))
    return found


def _messages(role: object, content: object) -> list[dict[str, Any]]:
    """Return one message, after the tools' results that it brings."""
    blocks = objects(content)
    results = [
        {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": _parts(block.get("content"))}
        for block in blocks
        if block.get("type") == "tool_result"
    ]
    others = [block for block in blocks if block.get("type") not in ("tool_result", "tool_use", "thinking")]
    calls = [
        _call(block.get("id"), block.get("name"), _text_of_json(block.get("input")))
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    thinking = "".join(str(block.get("thinking") or "") for block in blocks if block.get("type") == "thinking")
    if results and not others:
        return results
    message: dict[str, Any] = {"role": role, "content": _parts(others) if blocks else content}
    if thinking:
        message["reasoning"] = thinking
    if calls:
        message["tool_calls"] = calls
    return [*results, message]


def _parts(content: object) -> object:
    """Return content as OpenAI has it: a text as it is, blocks as parts; a lone text block as its text."""
    blocks = objects(content)
    if not blocks:
        return content if isinstance(content, str) else None
    if len(blocks) == 1 and isinstance(blocks[0].get("text"), str):
        return blocks[0]["text"]
    return [_part(block) for block in blocks]


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if block.get("type") == "image" and isinstance(source, dict):
        url = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
        return {"type": "image_url", "image_url": {"url": url}}
    return {name: value for name, value in block.items() if name != "cache_control"}


def _call(identifier: object, name: object, arguments: str) -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def _text_of_json(value: object) -> str:
    return json.dumps(value if value is not None else {}, separators=(",", ":"), ensure_ascii=False)


def error_events(error: GatewayError, request_id: str, answer: Answer) -> bytes:
    """Return the event that ends a failed stream."""
    return named_event("error", error_body(error, request_id))


ERRORS = ErrorForm(error_body, error_events)
PASSED_ON = (b"anthropic-version",)
ID_HEADERS = (b"x-request-id", b"request-id")  # the second is what Anthropic's SDK shows

DIALECT = Dialect(
    endpoint="messages",
    path="/v1/messages",
    check=check,
    subject=subject,
    answer=MessagesAnswer,
    errors=ERRORS,
    output_limits=("max_tokens",),
    terminals=frozenset(("message_stop",)),
    passed_on=PASSED_ON,
    id_headers=ID_HEADERS,
)
