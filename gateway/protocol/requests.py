"""The fields of an OpenAI request that we read; the body itself goes on as it came where nothing must change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NoReturn

from gateway.errors import BadRequest, UnsupportedParameter
from gateway.ledger.fingerprint import task_skeleton

Endpoint = Literal["chat.completions", "completions"]

# vLLM's extensions that hand out more of the model than OpenAI's API does; each is harmless when null (or false).
_DENIED = ("prompt_logprobs", "logprob_token_ids", "kv_transfer_params", "ec_transfer_params")
_DENIED_FLAGS = (
    "return_token_ids",
    "return_tokens_as_token_ids",
    "return_token_offsets",
    "return_routed_experts",
    "return_prompt_text",
    "return_mm_kwargs",
)
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
DEEPEST = 128  # levels of nesting


@dataclass(frozen=True)
class InferenceRequest:
    """One request. `raw` are the body's bytes as sent, `body` what they say."""

    endpoint: Endpoint
    raw: bytes
    body: dict[str, Any]
    model: str
    stream: bool
    injected: dict[str, Any] = field(
        default_factory=dict
    )  # fields that only the backend sees, in place of the caller's

    @cached_property
    def skeleton(self) -> str:
        """The hash of endpoint, system prompt, tools and output format; made once, used by routing and the record."""
        return task_skeleton(self.endpoint, self.body)

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
        found = {name: value for name, value in self.body.items() if value is not None}
        kept = {name: value for name, value in found.items() if name in _PLAIN_PARAMETERS}
        if with_text:
            kept |= {n: value for n, value in found.items() if n in _PARAMETERS_WITH_TEXT or n.startswith("guided_")}
        return kept

    def upstream_body(self, served_name: str) -> bytes:
        """Return the body for the backend: its name of the model, what is injected, and a stream's usage."""
        if not self.stream and served_name == self.model and not self.injected:
            return self.raw
        body = {**self.body, **self.injected, "model": served_name}
        if self.stream:
            body["stream_options"] = {**self._stream_options, "include_usage": True, "continuous_usage_stats": True}
        return json.dumps(body, separators=(",", ":")).encode()


def parse_request(endpoint: Endpoint, raw: bytes) -> InferenceRequest:
    """Read a body; `BadRequest` or `UnsupportedParameter` for what we look at, the rest is the backend's to judge."""
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
    _check_denied(endpoint, body)
    _check_metadata(body.get("metadata"))
    return InferenceRequest(endpoint, raw, body, model, bool(stream))


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
    for name in _DENIED:
        if body.get(name) is not None:
            raise UnsupportedParameter(name)
    for name in _DENIED_FLAGS:
        if body.get(name):
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
