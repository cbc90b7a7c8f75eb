"""The most that a request can use, known before it goes on: tokens of its prompt and of its answers.

A tokenizer makes at most one token of a byte, so the body's length bounds the prompt without reading it; a chat
template adds a few tokens a message, and renders tools with spaces that the body lacks. What is no text (images,
audio) is bounded by the model's context, as everything is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.errors import BadRequest
from gateway.protocol.requests import InferenceRequest

TEMPLATE_TOKENS = 128  # of a chat template without messages: its own system prompt, dates, tool instructions
MESSAGE_TOKENS = 16  # around one message
TOOLS_FACTOR = 2  # templates indent the declarations of tools


class Bound(NamedTuple):
    """At most so many tokens: `prompt` read and `output` made. `inject`: the field that holds the backend to it."""

    prompt: int
    output: int
    inject: dict[str, int] | None

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt + self.output

    def cost(self, prices: tuple[int, int]) -> int:
        """Return nano-dollars at these prices per token of prompt and of answer."""
        return self.prompt * prices[0] + self.output * prices[1]


def bound_of(request: InferenceRequest, context_length: int, max_output: int | None) -> Bound:
    """Bound a request to a model with that context.

    `BadRequest` when it asks for more than `max_output` allows, or writes a number as vLLM alone would read it.
    """
    body = request.body
    name, asked = _asked(request)
    if asked is not None and max_output is not None and asked > max_output:
        raise BadRequest(
            f"'{name}' is {asked}, and answers are limited to {max_output} tokens here: ask for fewer.", param=name
        )
    allowed = context_length if max_output is None else min(max_output, context_length)
    most = _default(request, name, allowed) if asked is None else min(asked, context_length)
    prompts = _prompts(body.get("prompt")) + _embedded(body) if "prompt" in body else _prompts(body.get("input"))
    prompt = min(_prompt_tokens(request, context_length), context_length * prompts)
    return Bound(prompt, most * _choices(request.told) * prompts, {name: most} if asked is None and name else None)


def _asked(request: InferenceRequest) -> tuple[str, int | None]:
    """Return the field that says how long an answer may be, and what the backend will read there."""
    names = request.dialect.output_limits
    told = request.told
    for name in names:
        value = told.get(name)
        if value is not None:
            return name, max(0, _whole(name, value))
    return (names[0] if names else ""), None


def _default(request: InferenceRequest, name: str, allowed: int) -> int:
    # What the caller would have got without a limit, so that a limit changes no answer: a null asks for all there is.
    if not name:
        return 0
    return allowed if name in request.body else int(min(request.dialect.assumed_output, allowed))


def _choices(body: dict[str, Any]) -> int:
    if "n" not in body and "best_of" not in body:
        return 1
    return max([1, *(_whole(name, body[name]) for name in ("n", "best_of") if body.get(name) is not None)])


def _whole(name: str, value: Any) -> int:
    # vLLM reads "64" and 64.0 as 64: what is not counted here would be spent beside every limit.
    if type(value) is not int:
        raise BadRequest(f"'{name}' must be a whole number.", param=name)
    return value


def _prompts(prompt: object) -> int:
    """Return how many prompts there are: a list of numbers is one, already in tokens."""
    return len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)) else 1


def _embedded(body: dict[str, Any]) -> int:
    """Return how many prompts come as embeddings beside the others (vLLM's extension)."""
    embedded = body.get("prompt_embeds")
    return len(embedded) if isinstance(embedded, list) else int(embedded is not None)


def _prompt_tokens(request: InferenceRequest, context_length: int) -> int:
    messages = request.subject.get("messages")
    if not isinstance(messages, list):
        return len(request.raw)
    for message in messages:
        if _has_media(message.get("content")):
            return context_length
    size = len(request.raw) * (TOOLS_FACTOR if request.body.get("tools") else 1)
    return size + TEMPLATE_TOKENS + MESSAGE_TOKENS * len(messages)


def _has_media(content: object) -> bool:
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") not in ("text", "refusal", None) for part in content)
