"""Turns a recorded request and its answer into token ids, exactly as the serving engine sees them.

The ids come from the tokenizer's own chat template. The loss is taken on the answer's tokens and on the token that
ends it, never on the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and its answer, which begins at `answer_start` and ends with the end-of-turn token."""

    input_ids: tuple[int, ...]
    answer_start: int


@dataclass(frozen=True)
class Batch:
    """Right-padded int64 tensors of shape (examples, longest); `labels` is IGNORED outside the answers."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


class PromptMismatchError(ValueError):
    """The chat template renders the prompt differently once the answer follows, so that no mask would be right."""


def prompt_ids(tokenizer: Any, request: dict[str, Any]) -> list[int]:
    """The token ids of a chat-completions body's prompt, up to and including the opening of the assistant's turn."""
    return _render(tokenizer, request, _messages(request), opened=True)


def encode(tokenizer: Any, request: dict[str, Any], answer: str) -> Example:
    """Token ids of a request and its answer, closed by the end-of-turn token.

    Raises PromptMismatchError where the prompt is not a prefix of the conversation with its answer.
    """
    prompt = prompt_ids(tokenizer, request)
    turn = [*_messages(request), {"role": "assistant", "content": answer}]
    whole = _render(tokenizer, request, turn, opened=False)
    if whole[: len(prompt)] != prompt:
        raise PromptMismatchError("the chat template changes the prompt when an answer follows; use another template")
    # What the template writes after the end of the turn (a line break, say) is never generated, so it is not learnt.
    end = tokenizer.eos_token_id
    answer_ids = whole[len(prompt) :]
    closed = answer_ids[: answer_ids.index(end)] if end in answer_ids else answer_ids
    return Example((*prompt, *closed, end), len(prompt))


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad examples on the right to the longest of them."""
    longest = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), longest), pad_id, dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORED, dtype=torch.long)
    attention_mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for row, example in enumerate(examples):
        ids = torch.tensor(example.input_ids)
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        labels[row, example.answer_start : len(ids)] = ids[example.answer_start :]
    return Batch(input_ids, attention_mask, labels)


def _render(tokenizer: Any, request: dict[str, Any], turns: list[dict[str, Any]], *, opened: bool) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        turns, tools=request.get("tools"), add_generation_prompt=opened, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


def _messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The request's messages with text parts joined by line breaks, as vLLM does for templates that expect strings."""
    return [{**message, "content": _text(message.get("content"))} for message in request["messages"]]


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""
