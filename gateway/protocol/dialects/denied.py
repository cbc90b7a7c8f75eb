"""Fields that no endpoint passes on, because they give away more than OpenAI's API does or need what we don't have."""

from __future__ import annotations

from typing import Any

from gateway.errors import BadRequest, UnsupportedParameter

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
_EVERY_DENIED = frozenset((*_DENIED, *_DENIED_FLAGS))


def check_denied(body: dict[str, Any]) -> None:
    """Raise `UnsupportedParameter` for a field that no endpoint takes."""
    if _EVERY_DENIED.isdisjoint(body):
        return
    for name in _DENIED:
        refuse(body, name)
    for name in _DENIED_FLAGS:
        if body.get(name):
            raise UnsupportedParameter(name)


def refuse(body: dict[str, Any], name: str, reason: str = "it is not offered here") -> None:
    """Raise `UnsupportedParameter` where the field says anything."""
    if body.get(name) is not None:
        raise UnsupportedParameter(name, reason)


def check_logprobs(body: dict[str, Any], name: str, most: int) -> None:
    """Refuse more log-probabilities for each token than OpenAI gives."""
    asked = body.get(name)
    # vLLM would read a text as a number too.
    number = isinstance(asked, (int, float))
    if asked is not None and not isinstance(asked, bool) and not (number and 0 <= asked <= most):
        raise UnsupportedParameter(name, f"it must be between 0 and {most}")
    if body.get("allowed_token_ids") is not None and body.get("logprobs"):
        raise UnsupportedParameter("allowed_token_ids", "together with logprobs it would give any token's probability")


def check_messages(body: dict[str, Any]) -> None:
    """Raise `BadRequest` unless `messages` is a list of objects with a role."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"messages[{index}] must be an object with a role.", param=f"messages[{index}]")
