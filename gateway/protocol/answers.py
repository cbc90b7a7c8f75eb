"""What a backend answered: text, tool calls, usage and how it ended; and the errors that its refusals stand for."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

import orjson

from gateway.errors import (
    EndpointNotServed,
    GatewayError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamProtocol,
    UpstreamRefusedUs,
    UpstreamRejected,
)

Usage = dict[str, int | None]


class Answer(ABC):
    """Collects what a backend answered. Of several choices the text of the first is kept, and their number.

    `prompt_tokens` is what the backend said of the prompt before the end; `content_chunks` is what counting has to go
    by where it never says what it made. Each dialect's own kind reads the wire.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None  # in the words of chat completions: stop, length, tool_calls, …
        self.choices = 0
        self.content_chunks = 0
        self.prompt_tokens: int | None = None
        self._reported: dict[str, Any] | None = None  # the backend's last word on usage
        self._content: list[str] = []
        self._reasoning: list[str] = []

    def add_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take an event of a stream; True when it has content that a client would see. Not all endpoints stream."""
        return False

    def pass_word(self, event: bytes) -> bytes | None:
        """Take an event of a stream without reading it, where its form is known; return what a client gets of it.

        That is without usage, so it is only for clients that want none. None: it has to be read.
        """
        return None

    def learn(self, event: bytes) -> bool:
        """Learn the form of an event that was just read, so that the next of its kind need not be; is it known now?"""
        return False

    @abstractmethod
    def add_whole(self, body: dict[str, Any]) -> None:
        """Take an answer that was not streamed."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """The backend's own count, in the record's terms; None where it gave none."""
        if self._reported is None:
            return None
        exact: dict[str, Any] = {name: n for name, n in self._exact(self._reported).items() if n is not None}
        exact["source"] = "exact"
        return exact

    def response(self) -> dict[str, Any]:
        """Return the record's `response`."""
        response: dict[str, Any] = {
            "content": "".join(self._content) if self._content else None,
            "choices": self.choices,
        }
        if self._reasoning:
            response["reasoning"] = "".join(self._reasoning)
        calls = self._calls()
        if calls:
            response["tool_calls"] = calls
        return response

    def _keep_text(self, content: object, reasoning: object) -> None:
        if isinstance(content, str):
            self._content.append(content)
        if isinstance(reasoning, str):
            self._reasoning.append(reasoning)

    @abstractmethod
    def _exact(self, reported: dict[str, Any]) -> Usage:
        """Return the backend's count in the record's terms; None for what it does not say."""

    def _calls(self) -> list[dict[str, Any]]:
        return []


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list, and nothing for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count(usage: object, name: str) -> int | None:
    """Return a number of tokens where there is one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


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
    if status == 501 or (status == 404 and _says_not_found(body)):
        return EndpointNotServed()
    if status in (401, 403, 404, 405, 407):
        return UpstreamRefusedUs(
            "The model's server refused the gateway: the operator has to mend the backend's settings."
        )
    if 400 <= status < 500:
        return _rejected(status, body)
    if status >= 500:
        return UpstreamFailed(f"The model's server failed (status {status}).")
    return UpstreamProtocol(f"The model's server answered with status {status}, which has no meaning here.")


def _says_not_found(body: bytes) -> bool:
    # Starlette's words for a path without a route; of a model that it does not serve vLLM says which and why.
    fields = _error_fields(body)
    return (fields.get("message") or fields.get("detail")) == "Not Found"


def _error_fields(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = {}
    error = document.get("error", document) if isinstance(document, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _rejected(status: int, body: bytes) -> UpstreamRejected:
    fields = _error_fields(body)
    message = fields.get("message") or fields.get("detail") or "The model's server refused the request."
    param, code = fields.get("param"), fields.get("code")
    code = code if isinstance(code, str) else None
    if code is None and "maximum context length" in str(message):
        code = "context_length_exceeded"
    # vLLM names a parameter by its place in the body, OpenAI by its name.
    param = param.removeprefix("body.") if isinstance(param, str) else None
    return UpstreamRejected(status, str(message), param=param, code=code)
