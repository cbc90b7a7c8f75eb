"""`/v1/chat/completions`."""

from __future__ import annotations

from typing import Any

from gateway.protocol.dialects.choices import ChoicesAnswer
from gateway.protocol.dialects.denied import check_denied, check_logprobs, check_messages
from gateway.protocol.dialects.dialect import Dialect
from gateway.protocol.dialects.stripping import strip_choices

MOST_TOP_LOGPROBS = 20  # OpenAI's own bound


def check(body: dict[str, Any], extensions: bool) -> None:
    """Check what we look at of a chat request."""
    check_messages(body)
    if not extensions:
        check_denied(body)
        check_logprobs(body, "top_logprobs", MOST_TOP_LOGPROBS)


def ask_for_usage(body: dict[str, Any], stream: bool) -> dict[str, Any]:
    """Have every chunk of a stream carry usage, so that one that is broken off is billed exactly."""
    if not stream:
        return {}
    options = body.get("stream_options") or {}
    return {"stream_options": {**options, "include_usage": True, "continuous_usage_stats": True}}


DIALECT = Dialect(
    endpoint="chat.completions",
    path="/v1/chat/completions",
    check=check,
    subject=lambda body: body,
    answer=ChoicesAnswer,
    changes=ask_for_usage,
    stripped=strip_choices,
    output_limits=("max_completion_tokens", "max_tokens"),
    hides_usage=True,
)
