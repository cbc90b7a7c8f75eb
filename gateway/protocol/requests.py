"""The fields of an OpenAI request that we read; the body itself goes on as it came where nothing must change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import BadRequest
from gateway.ledger.fingerprint import FORM_FIELDS, task_skeleton
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


@dataclass(slots=True)
class InferenceRequest:
    """One request. `raw` are the body's bytes as sent, `body` what they say, `injected` what we add for the backend."""

    endpoint: Endpoint
    raw: bytes
    body: dict[str, Any]
    model: str
    stream: bool
    injected: dict[str, Any] | None = None  # fields that only the backend sees, in place of the caller's
    _skeleton: str | None = None
    _subject: dict[str, Any] | None = None

    @property
    def dialect(self) -> Dialect:
        """What is particular to the endpoint."""
        return DIALECTS[self.endpoint]

    @property
    def subject(self) -> dict[str, Any]:
        """The body in the record's terms, OpenAI's chat or completions, whatever the endpoint's own form."""
        if self._subject is None:
            self._subject = self.dialect.subject(self.body)
        return self._subject

    @property
    def skeleton(self) -> str:
        """The hash of endpoint, system prompt, tools and output format; made once, used by routing and the record."""
        if self._skeleton is None:
            self._skeleton = task_skeleton(self.endpoint, self.subject)
        return self._skeleton

    @property
    def known_skeleton(self) -> str | None:
        """The skeleton, where somebody needed it."""
        return self._skeleton

    @property
    def form_skeleton(self) -> str | None:
        """The skeleton where a record alone would not tell it, because it names tools and keeps no system field."""
        return None if FORM_FIELDS.isdisjoint(self.body) else self.skeleton

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
    def told(self) -> dict[str, Any]:
        """What the backend is told: the body, and what we add to it."""
        return {**self.body, **self.injected} if self.injected else self.body

    @property
    def output_limits(self) -> dict[str, Any]:
        """What the backend is told of an answer's length: the fields that bound it, the one that counts first."""
        told = self.told
        return {name: told[name] for name in self.dialect.output_limits if told.get(name) is not None}

    @property
    def maximum_output(self) -> int | None:
        """The most tokens an answer may have by what the backend is told, or None where that says nothing."""
        return next((value for value in self.output_limits.values() if type(value) is int), None)

    @property
    def _stream_options(self) -> dict[str, Any]:
        options = self.body.get("stream_options")
        return options if isinstance(options, dict) else {}

    def parameters(self, *, with_text: bool) -> dict[str, Any]:
        """Return what the record keeps of the other fields; without text none that may quote the prompt."""
        kept = {}
        for name, value in self.subject.items():
            if value is not None and (
                name in _PLAIN_PARAMETERS
                or (with_text and (name in _PARAMETERS_WITH_TEXT or name.startswith("guided_")))
            ):
                kept[name] = value
        return kept

    def upstream_body(self, served_name: str) -> bytes:
        """Return the body for the backend: its name of the model, what we inject, what the dialect changes.

        Whatever need not change stays as it came, byte for byte.
        """
        changes = self.dialect.changes(self.body, self.stream)
        if self.injected:
            changes = {**self.injected, **changes}
        if served_name == self.model:
            if not changes:
                return self.raw
            if changes.keys().isdisjoint(self.body):
                return self.raw.rstrip(b" \t\r\n")[:-1] + b"," + orjson.dumps(changes)[1:]
        return orjson.dumps({**self.body, "model": served_name, **changes})


def parse_request(endpoint: Endpoint, raw: bytes, *, extensions: bool = False) -> InferenceRequest:
    """Read a body; `BadRequest` or `UnsupportedParameter` for what we look at, the rest is the backend's to judge.

    With `extensions` the caller's key may use what gives away more than OpenAI's API does.
    """
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
    dialect.check(body, extensions)
    request = InferenceRequest(endpoint, raw, body, model, bool(stream))
    metadata = body.get("metadata")
    if metadata is not None:
        _check_metadata(request.subject["metadata"])
    return request


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {error}.") from None
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
