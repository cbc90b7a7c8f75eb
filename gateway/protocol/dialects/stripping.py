"""What an account that is stripped does not get: log-probabilities, and more than one answer to a prompt.

It is left out of what the backend is asked, so that its answer is whole and valid as it comes: `logprobs` is null, as
for a caller who never asked. What the account asked for stays in the record.
"""

from __future__ import annotations

from typing import Any

LOGPROBS_OF_RESPONSES = "message.output_text.logprobs"
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs", "logprob_token_ids")
_COUNTS = ("n", "best_of")


def strip_choices(body: dict[str, Any]) -> dict[str, Any]:
    """Return what changes of a body of chat completions or completions."""
    # vLLM reads a text or 8.0 as a number too, and 0 asks completions for the chosen token's log-probability.
    changes: dict[str, Any] = {
        name: None for name in _LOGPROBS if body.get(name) is not None and body[name] is not False
    }
    for name in _COUNTS:
        if body.get(name) is not None and body[name] != 1:
            changes[name] = 1
    return changes


def strip_response(body: dict[str, Any]) -> dict[str, Any]:
    """Return what changes of a body of responses."""
    changes: dict[str, Any] = {"top_logprobs": None} if body.get("top_logprobs") is not None else {}
    included = body.get("include")
    if isinstance(included, list) and LOGPROBS_OF_RESPONSES in included:
        changes["include"] = [name for name in included if name != LOGPROBS_OF_RESPONSES]
    return changes
