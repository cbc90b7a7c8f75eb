"""The fields of an OpenAI request that we read; the body itself goes on as it came where nothing must change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gateway.errors import BadRequest, UnsupportedParameter
from gateway.ledger.fingerprint import FORM_FIELDS, task_skeleton

Endpoint = Literal["chat.completions", "completions"]

# vLLM's extensions that hand out more of the model than OpenAI's API does; each is harmless when null (or false).
_DENIED = frozenset(("prompt_logprobs", "logprob_token_ids", "kv_transfer_params", "ec_transfer_params"))
_DENIED_FLAGS = frozenset(
    (
        *("return_token_ids", "return_tokens_as_token_ids", "return_token_offsets", "return_routed_experts"),
        *("return_prompt_text", "return_mm_kwargs"),
    )
)
_LOOKED_AT = _DENIED | _DENIED_FLAGS | {"echo", "allowed_token_ids", "top_logprobs", "logprobs"}
_MOST_LOGPROBS = {"top_logprobs": 20, "logprobs": 5}  # OpenAI's own bounds, for chat and for completions
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512

# What shapes an answer or its delivery, in OpenAI's API and vLLM's extensions; besides these, every `guided_` field.
_PLAIN_PARAMETERS = frozenset(
    (
        *("temperature", "top_p", "top_k", "min_p", "n", "best_of", "seed", "max_tokens", "max_completion_tokens"),
        *("min_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "stream", "echo"),
        *("logprobs", "top_logprobs", "tool_choice", "parallel_tool_calls", "reasoning_effort", "service_tier"),
    )
)
_PARAMETERS_WITH_TEXT = frozenset(  # they may quote the prompt's words
    ("stop", "response_format", "structured_outputs", "chat_template_kwargs", "suffix")
)
# Where a caller says how many tokens an answer may have, and what vLLM assumes where nothing is said.
_OUTPUT_FIELDS = {"chat.completions": ("max_completion_tokens", "max_tokens"), "completions": ("max_tokens",)}
_ASSUMED_OUTPUT = {"completions": 16}
DEEPEST = 128  # levels of nesting


_USAGE_WANTED = b',"stream_options":{"include_usage":true,"continuous_usage_stats":true}}'


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

    @property
    def skeleton(self) -> str:
        """The hash of endpoint, system prompt, tools and output format; made once, used by routing and the record."""
        if self._skeleton is None:
            self._skeleton = task_skeleton(self.endpoint, self.body)
        return self._skeleton

    @property
    def known_skeleton(self) -> str | None:
        """The skeleton, where it is known already or the record alone would not tell it; else ingestion makes it."""
        return self._skeleton if FORM_FIELDS.isdisjoint(self.body) else self.skeleton

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
    def output_fields(self) -> tuple[str, ...]:
        """The fields that bound an answer's tokens, the one to write first."""
        return _OUTPUT_FIELDS[self.endpoint]

    @property
    def maximum_output(self) -> int | None:
        """The most tokens an answer may have by what the backend is told, or None where that says nothing."""
        told = ((self.injected or self.body).get(name, self.body.get(name)) for name in self.output_fields)
        return next((value for value in told if type(value) is int), None)

    @property
    def assumed_output(self) -> float:
        """The tokens that the backend allows an answer whose caller set no maximum; infinite for all that fits."""
        return _ASSUMED_OUTPUT.get(self.endpoint, math.inf)

    @property
    def _stream_options(self) -> dict[str, Any]:
        options = self.body.get("stream_options")
        return options if isinstance(options, dict) else {}

    def parameters(self, *, with_text: bool) -> dict[str, Any]:
        """Return what the record keeps of the other fields; without text none that may quote the prompt."""
        kept = {}
        for name, value in self.body.items():
            if value is not None and (
                name in _PLAIN_PARAMETERS
                or (with_text and (name in _PARAMETERS_WITH_TEXT or name.startswith("guided_")))
            ):
                kept[name] = value
        return kept

    def upstream_body(self, served_name: str) -> bytes:
        """Return the body for the backend: its name of the model, what we inject, a stream's usage in every chunk."""
        if served_name == self.model and not self.injected:
            if not self.stream:
                return self.raw
            if "stream_options" not in self.body:
                return self.raw.rstrip(b" \t\r\n")[:-1] + _USAGE_WANTED
        body = {**self.body, **(self.injected or {}), "model": served_name}
        if self.stream:
            body["stream_options"] = {**self._stream_options, "include_usage": True, "continuous_usage_stats": True}
        return orjson.dumps(body)


def parse_request(endpoint: Endpoint, raw: bytes, *, extensions: bool = False) -> InferenceRequest:
    """Read a body; `BadRequest` or `UnsupportedParameter` for what we look at, the rest is the backend's to judge.

    With `extensions` the caller's key may use what gives away more than OpenAI's API does.
    """
    body = _parse_object(raw)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest('You must provide a model parameter: a model\'s name, or "auto".', param="model")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("'stream' must be true or false.", param="stream")
    if not isinstance(body.get("stream_options"), (dict, type(None))):
        raise BadRequest("'stream_options' must be an object.", param="stream_options")
    _check_input(endpoint, body)
    if not extensions:
        _check_denied(endpoint, body)
    _check_metadata(body.get("metadata"))
    return InferenceRequest(endpoint, raw, body, model, bool(stream))


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


def _check_input(endpoint: Endpoint, body: dict[str, Any]) -> None:
    if endpoint == "completions":
        if "prompt" not in body:
            raise BadRequest("You must provide a prompt parameter.", param="prompt")
        return
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"messages[{index}] must be an object with a role.", param=f"messages[{index}]")


def _check_denied(endpoint: Endpoint, body: dict[str, Any]) -> None:
    if _LOOKED_AT.isdisjoint(body):
        return
    for name, value in body.items():
        if (name in _DENIED and value is not None) or (name in _DENIED_FLAGS and value):
            raise UnsupportedParameter(name)
    if endpoint == "completions" and body.get("echo") and body.get("logprobs") is not None:
        raise UnsupportedParameter("echo", "together with logprobs it would give the prompt's log-probabilities")
    if body.get("allowed_token_ids") is not None and body.get("logprobs"):
        raise UnsupportedParameter("allowed_token_ids", "together with logprobs it would give any token's probability")
    name = "top_logprobs" if endpoint == "chat.completions" else "logprobs"
    asked, most = body.get(name), _MOST_LOGPROBS[name]
    if isinstance(asked, (int, float)) and not isinstance(asked, bool) and not 0 <= asked <= most:
        raise UnsupportedParameter(name, f"it must be between 0 and {most}")


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > _METADATA_PAIRS:
        raise BadRequest(f"'metadata' must be an object of at most {_METADATA_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if not isinstance(value, str) or len(key) > _METADATA_KEY or len(value) > _METADATA_VALUE:
            text = f"'metadata' takes keys of {_METADATA_KEY} characters and texts of {_METADATA_VALUE} at most."
            raise BadRequest(text, param="metadata")


def tool_names(body: dict[str, Any]) -> list[str]:
    """Return the names of the declared tools."""
    tools = body.get("tools")
    declared = tools if isinstance(tools, list) else []
    functions = [tool.get("function") for tool in declared if isinstance(tool, dict)]
    return [str(function["name"]) for function in functions if isinstance(function, dict) and "name" in function]
