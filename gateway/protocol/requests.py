"""The fields of an OpenAI request that we read; the body itself goes on as it came where nothing must change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from gateway.errors import BadRequest
from gateway.ledger.fingerprint import task_skeleton
from gateway.protocol.dialects import DIALECTS, Dialect
from gateway.protocol.dialects import Endpoint as Endpoint

_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512

# What shapes an answer or its delivery, in OpenAI's API and vLLM's extensions; besides these, every `guided_` field.
_PLAIN_PARAMETERS = frozenset(
    (
        *("temperature", "top_p", "top_k", "min_p", "n", "best_of", "seed", "max_tokens", "max_completion_tokens"),
        *("min_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "stream", "echo"),
        *("logprobs", "top_logprobs", "tool_choice", "parallel_tool_calls", "reasoning_effort", "service_tier"),
        *("thinking", "truncation", "dimensions", "encoding_format"),
    )
)
_PARAMETERS_WITH_TEXT = frozenset(  # they may quote the prompt's words
    ("stop", "response_format", "structured_outputs", "chat_template_kwargs", "suffix")
)
DEEPEST = 128  # levels of nesting


@dataclass(frozen=True)
class InferenceRequest:
    """One request. `raw` are the body's bytes as sent, `body` what they say."""

    endpoint: Endpoint
    raw: bytes
    body: dict[str, Any]
    model: str
    stream: bool

    @property
    def dialect(self) -> Dialect:
        """What is particular to the endpoint."""
        return DIALECTS[self.endpoint]

    @cached_property
    def subject(self) -> dict[str, Any]:
        """The body in the record's terms, OpenAI's chat or completions, whatever the endpoint's own form."""
        return self.dialect.subject(self.body)

    @cached_property
    def skeleton(self) -> str:
        """The hash of endpoint, system prompt, tools and output format; made once, used by routing and the record."""
        return task_skeleton(self.endpoint, self.subject)

    @property
    def max_output(self) -> int | None:
        """The caller's bound on the tokens of an answer, or None."""
        for name in self.dialect.output_limits:
            value = self.body.get(name)
            if value is not None:
                return value if type(value) is int else None
        return None

    @property
    def wants_usage(self) -> bool:
        """Did the client ask for the usage chunk at the end of its stream?"""
        return bool(self._stream_options.get("include_usage"))

    @property
    def wants_continuous_usage(self) -> bool:
        """Did the client ask for usage in every chunk (vLLM's extension)?"""
        return bool(self._stream_options.get("include_usage") and self._stream_options.get("continuous_usage_stats"))

    @property
    def store(self) -> bool:
        """OpenAI's opt-in to training; only an explicit `true` counts."""
        return self.body.get("store") is True

    @property
    def _stream_options(self) -> dict[str, Any]:
        options = self.body.get("stream_options")
        return options if isinstance(options, dict) else {}

    def parameters(self, *, with_text: bool) -> dict[str, Any]:
        """Return what the record keeps of the other fields; without text none that may quote the prompt."""
        found = {name: value for name, value in self.subject.items() if value is not None}
        kept = {name: value for name, value in found.items() if name in _PLAIN_PARAMETERS}
        if with_text:
            kept |= {n: value for n, value in found.items() if n in _PARAMETERS_WITH_TEXT or n.startswith("guided_")}
        return kept

    def upstream_body(self, served_name: str) -> bytes:
        """Return the body for the backend: its name of the model, and what the dialect changes; else as it came."""
        changes = self.dialect.changes(self.body, self.stream)
        if not changes and served_name == self.model:
            return self.raw
        return json.dumps({**self.body, "model": served_name, **changes}, separators=(",", ":")).encode()


def parse_request(endpoint: Endpoint, raw: bytes) -> InferenceRequest:
    """Read a body; `BadRequest` or `UnsupportedParameter` for what we look at, the rest is the backend's to judge."""
    body = _parse_object(raw)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest('You must provide a model parameter: a model\'s name, or "auto".', param="model")
    dialect = DIALECTS[endpoint]
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.", param="stream")
    if stream and not dialect.streams:
        raise BadRequest("This endpoint has no streams: leave out 'stream'.", param="stream")
    if not isinstance(body.get("stream_options"), (dict, type(None))):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    dialect.check(body)
    request = InferenceRequest(endpoint, raw, body, model, bool(stream))
    metadata = body.get("metadata")
    if metadata is not None:
        _check_metadata(request.subject["metadata"])
    return request


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_constant)
        if b"\\ud" in raw or b"\\uD" in raw:
            # A lone surrogate is valid JSON and no valid text: nothing behind us could encode it.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {_reason(error)}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    if raw.count(b"{") + raw.count(b"[") > DEEPEST and _is_too_deep(body):
        raise BadRequest(f"The body is nested deeper than {DEEPEST} levels.")
    return body


def _is_too_deep(body: object) -> bool:
    level: list[object] = [body]
    for _ in range(DEEPEST):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list)))
        level = [value for values in inner for value in values]
        if not level:
            return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not valid UTF-8 text"
    return str(error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or len(metadata) > _METADATA_PAIRS:
        raise BadRequest(f"'metadata' must be an object of at most {_METADATA_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if not isinstance(value, str) or len(key) > _METADATA_KEY or len(value) > _METADATA_VALUE:
            text = f"'metadata' takes keys of {_METADATA_KEY} characters and texts of {_METADATA_VALUE} at most."
            raise BadRequest(text, param="metadata")


def tool_names(body: dict[str, Any]) -> list[str]:
    """Return the names of the declared tools; chat completions has them in a `function`, the others beside its form."""
    tools = body.get("tools")
    declared = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    named = [tool["function"] if isinstance(tool.get("function"), dict) else tool for tool in declared]
    return [str(tool["name"]) for tool in named if "name" in tool]
