"""`/v1/completions`, OpenAI's older form."""

from __future__ import annotations

from typing import Any

from gateway.errors import BadRequest, UnsupportedParameter
from gateway.protocol.dialects.chat import ask_for_usage
from gateway.protocol.dialects.choices import ChoicesAnswer
from gateway.protocol.dialects.denied import check_denied, check_logprobs
from gateway.protocol.dialects.dialect import Dialect
from gateway.protocol.dialects.stripping import strip_choices

MOST_LOGPROBS = 5  # OpenAI's own bound


def check(body: dict[str, Any], extensions: bool) -> None:
    """Check what we look at of a completions request."""
    if "prompt" not in body:
        raise BadRequest("You must provide a prompt parameter.", param="prompt")
    if not extensions:
        check_denied(body)
        if body.get("echo") and body.get("logprobs") is not None:
            raise UnsupportedParameter("echo", "together with logprobs it would give the prompt's log-probabilities")
        check_logprobs(body, "logprobs", MOST_LOGPROBS)


DIALECT = Dialect(
    endpoint="completions",
    path="/v1/completions",
    check=check,
    subject=lambda body: body,
    answer=ChoicesAnswer,
    text="prompt",
    changes=ask_for_usage,
    stripped=strip_choices,
    output_limits=("max_tokens",),
    assumed_output=16,  # OpenAI's default, and vLLM's
    hides_usage=True,
)
