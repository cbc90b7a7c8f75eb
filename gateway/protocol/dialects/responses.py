"""`/v1/responses`, without the server's memory: every request brings its whole conversation."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import BadRequest, GatewayError, UpstreamFailed
from gateway.protocol.answers import Answer, Usage, count, error_in_stream, objects
from gateway.protocol.dialects.chat import MOST_TOP_LOGPROBS
from gateway.protocol.dialects.denied import check_denied, check_logprobs, refuse
from gateway.protocol.dialects.dialect import Dialect, ErrorForm
from gateway.protocol.dialects.stripping import LOGPROBS_OF_RESPONSES, strip_response
from gateway.protocol.sse import named_event

_STATE = "nothing of a response is kept here: send the whole conversation as input"
# What would need the memory of one backend, which no other has and which tells accounts apart by nothing.
_NEEDS_STATE = ("previous_response_id", "conversation", "prompt")
_RENAMED = ("input", "instructions", "text", "max_output_tokens", "reasoning")
_TERMINALS = frozenset(("response.completed", "response.failed", "response.incomplete"))


class ResponsesAnswer(Answer):
    """Collects a response and its output items."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence_number = -1  # of the last event
        self.begun: dict[str, Any] = {}  # the response as the stream's first event had it
        self._tools: list[dict[str, Any]] = []

    def add_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take an event of a stream; True when it has content that a client would see."""
        kind, response = str(chunk.get("type")), chunk.get("response")
        self.sequence_number = count(chunk, "sequence_number") or self.sequence_number + 1
        if kind in _TERMINALS and isinstance(response, dict):
            self._end(response)
            return True
        if kind == "response.created" and isinstance(response, dict):
            self.begun, self.choices = response, 1
        elif kind == "response.output_item.done":
            self._keep_item(chunk.get("item"))
        delta = chunk.get("delta")
        if not kind.endswith(".delta") or not delta:
            return False
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            self._keep_text(delta, None)
        elif kind.startswith("response.reasoning"):
            self._keep_text(None, delta)
        self.content_chunks += 1
        return True

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take an answer that was not streamed."""
        self.choices = 1
        for item in objects(body.get("output")):
            self._keep_item(item)
            for part in objects(item.get("content")):
                self._keep_part(part)
        self._end(body)

    def _keep_part(self, part: dict[str, Any]) -> None:
        text = part.get("text") or part.get("refusal")
        reasoning = part.get("type") == "reasoning_text"
        self._keep_text(None if reasoning else text, text if reasoning else None)

    def _keep_item(self, item: object) -> None:
        if isinstance(item, dict) and item.get("type") in ("function_call", "custom_tool_call"):
            self._tools.append(_call(item))

    def _end(self, response: dict[str, Any]) -> None:
        self.choices = 1
        usage = response.get("usage")
        if isinstance(usage, dict):
            self._reported = usage
        details = response.get("incomplete_details")
        if response.get("status") == "incomplete":
            reason = details.get("reason") if isinstance(details, dict) else None
            self.finish_reason = "content_filter" if reason == "content_filter" else "length"
        elif response.get("status") == "completed":
            self.finish_reason = "tool_calls" if self._tools else "stop"

    def _exact(self, reported: dict[str, Any]) -> Usage:
        return {
            "input_tokens": count(reported, "input_tokens") or 0,
            "output_tokens": count(reported, "output_tokens") or 0,
            "reasoning_tokens": count(reported.get("output_tokens_details"), "reasoning_tokens"),
            "cached_tokens": count(reported.get("input_tokens_details"), "cached_tokens"),
        }

    def _calls(self) -> list[dict[str, Any]]:
        return self._tools


def check(body: dict[str, Any], extensions: bool) -> None:
    """Check what we look at of a responses request."""
    if not isinstance(body.get("input"), (str, list)) or not body["input"]:
        raise BadRequest("You must provide an input parameter: a text or a list of items.", param="input")
    for name in _NEEDS_STATE:
        refuse(body, name, _STATE)
    if body.get("background"):
        refuse(body, "background", "an answer is made while its client waits, and nothing of it is kept here")
    refuse(body, "previous_input_messages", "send earlier messages as input")
    refuse(body, "request_id")  # vLLM names its work by it: two of one name would meet
    if body.get("enable_response_messages"):
        refuse(body, "enable_response_messages")
    if not extensions:
        check_denied(body)
        check_logprobs(body, "top_logprobs", MOST_TOP_LOGPROBS)


def keep_nothing(body: dict[str, Any], stream: bool) -> dict[str, Any]:
    """Keep the backend from storing the response: it could not be had back, withdrawn or erased."""
    return {"store": False}


def failure_of(chunk: dict[str, Any]) -> GatewayError | None:
    """Return the error that an answer or event stands for, or None."""
    response = chunk.get("response", chunk)
    status = response.get("status") if isinstance(response, dict) else None
    if chunk.get("type") == "error" or status == "failed":
        return error_in_stream(chunk) or UpstreamFailed("The model's server failed while it was answering.")
    return error_in_stream(chunk)


def error_events(error: GatewayError, request_id: str, answer: Answer) -> bytes:
    """Return the two events that end a failed stream: `error`, at which SDKs raise, and `response.failed`."""
    assert isinstance(answer, ResponsesAnswer)
    number = answer.sequence_number + 1
    fields = error.body()["error"]
    event = {"type": "error", "sequence_number": number, **fields, "error": fields} | {"type": "error"}
    told = {"code": error.code or "server_error", "message": error.message}
    response = {"id": request_id, "object": "response", "output": [], **answer.begun, "status": "failed", "error": told}
    failed = {"type": "response.failed", "sequence_number": number + 1, "response": response}
    return named_event("error", json.dumps(event).encode()) + named_event(
        "response.failed", json.dumps(failed).encode()
    )


def subject(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body as one of chat completions."""
    found: dict[str, Any] = {name: value for name, value in body.items() if name not in _RENAMED}
    found["messages"] = _conversation(body)
    if body.get("max_output_tokens") is not None:
        found["max_tokens"] = body["max_output_tokens"]
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort"):
        found["reasoning_effort"] = reasoning["effort"]
    if isinstance(body.get("include"), list) and LOGPROBS_OF_RESPONSES in body["include"]:
        found["logprobs"] = True
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if isinstance(form, dict) and form.get("type") != "text":
        schema = {name: value for name, value in form.items() if name != "type"}
        found["response_format"] = {"type": form.get("type")} | ({"json_schema": schema} if schema else {})
    return found


def _conversation(body: dict[str, Any]) -> list[dict[str, Any]]:
    instructions, asked = body.get("instructions"), body["input"]
    found: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(asked, str):
        return [*found, {"role": "user", "content": asked}]
    return found + [_message(item) for item in objects(asked)]


def _message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type")
    if isinstance(item.get("role"), str):
        return {"role": item["role"], "content": _parts(item.get("content"))}
    if kind in ("function_call", "custom_tool_call"):
        return {"role": "assistant", "content": None, "tool_calls": [_call(item)]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _parts(item.get("output"))}
    if kind == "reasoning":
        texts = [part.get("text") for part in objects(item.get("content")) or objects(item.get("summary"))]
        words = "".join(text for text in texts if isinstance(text, str))
        return {"role": "assistant", "content": None, "reasoning": words}
    return {"role": "tool" if str(kind).endswith("_output") else "assistant", "content": [item]}


def _parts(content: object) -> object:
    """Return content as OpenAI's chat has it: a text as it is, a lone text part as its text."""
    parts = objects(content)
    if not parts:
        return content if isinstance(content, str) else None
    if len(parts) == 1 and isinstance(parts[0].get("text"), str):
        return parts[0]["text"]
    return [_part(part) for part in parts]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    return part


def _call(item: dict[str, Any]) -> dict[str, Any]:
    function = {"name": item.get("name"), "arguments": item.get("arguments") or item.get("input")}
    return {"id": item.get("call_id") or item.get("id"), "type": "function", "function": function}


DIALECT = Dialect(
    endpoint="responses",
    path="/v1/responses",
    check=check,
    subject=subject,
    answer=ResponsesAnswer,
    changes=keep_nothing,
    stripped=strip_response,
    failed=failure_of,
    errors=ErrorForm(lambda error, request_id: error.encoded(), error_events),
    output_limits=("max_output_tokens",),
    terminals=_TERMINALS,
)
