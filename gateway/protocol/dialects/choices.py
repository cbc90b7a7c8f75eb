"""Answers that come as `choices`: those of chat completions and of completions."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocol.answers import Answer, Usage, count, objects
from gateway.protocol.dialects.words import WordForm

_CONTENT = ("content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal")


class ChoicesAnswer(Answer):
    """Collects an answer with choices."""

    def __init__(self) -> None:
        super().__init__()
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._word: str | None = None  # of the last chunk, where it had nothing else
        self._form: WordForm | None = None
        self._usage_so_far: bytes | None = None  # as JSON, read when somebody asks

    def pass_word(self, event: bytes) -> bytes | None:
        """Take an event of the form that was learnt; return it without usage, or None: it has to be read."""
        found = self._form.read(event) if self._form is not None else None
        if found is None:
            return None
        word, self._usage_so_far, shown = found
        self._content.append(word)
        self.content_chunks += 1
        return shown

    def learn(self, event: bytes) -> bool:
        """Learn the form of an event that was just read; was it the commonest, with nothing but a word?"""
        if self._form is None and self._word is not None:
            self._form = WordForm.of(event, self._word)
        return self._form is not None

    @property
    def usage(self) -> dict[str, Any] | None:
        """The backend's own count, in the record's terms; None where it gave none."""
        if self._usage_so_far is not None:
            self._reported, self._usage_so_far = orjson.loads(self._usage_so_far), None
        return super().usage

    def add_chunk(self, chunk: dict[str, Any]) -> bool:
        """Take a chunk of a stream; True when it has content that a client would see."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._reported, self._usage_so_far = usage, None
        if self._add_word(chunk.get("choices")):
            return True
        seen = False
        for choice in objects(chunk.get("choices")):
            seen = self._add_choice(choice, choice.get("delta")) or seen
        self.content_chunks += seen
        return seen

    def _add_word(self, choices: object) -> bool:
        """Take the commonest chunk, of which streams consist: one choice, and nothing but some text in it."""
        self._word = None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        if choice.get("index") != 0 or choice.get("finish_reason") or not isinstance(delta, dict) or len(delta) != 1:
            return False
        content = delta.get("content")
        if not isinstance(content, str) or not content:
            return False
        self._word = content
        self._content.append(content)
        self.choices = self.choices or 1
        self.content_chunks += 1
        return True

    def add_whole(self, body: dict[str, Any]) -> None:
        """Take an answer that was not streamed."""
        usage = body.get("usage")
        self._reported = usage if isinstance(usage, dict) else None
        for choice in objects(body.get("choices")):
            self._add_choice(choice, choice.get("message"))

    def _exact(self, reported: dict[str, Any]) -> Usage:
        return choices_usage(reported)

    def _calls(self) -> list[dict[str, Any]]:
        return [self._tool_calls[index] for index in sorted(self._tool_calls)]

    def _add_choice(self, choice: dict[str, Any], message: object) -> bool:
        index = choice.get("index") or 0
        self.choices = max(self.choices, index + 1 if isinstance(index, int) else 1)
        part = message if isinstance(message, dict) else {}
        if index == 0:
            self._keep(choice, part)
        ended = choice.get("finish_reason") is not None
        return bool(choice.get("text")) or ended or any(part.get(name) for name in _CONTENT)

    def _keep(self, choice: dict[str, Any], part: dict[str, Any]) -> None:
        self._keep_text(
            part.get("content") or choice.get("text"), part.get("reasoning") or part.get("reasoning_content")
        )
        for position, call in enumerate(objects(part.get("tool_calls"))):
            self._keep_call(call.get("index", position), call)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self.finish_reason = reason

    def _keep_call(self, index: Any, call: dict[str, Any]) -> None:
        known = self._tool_calls.setdefault(
            index if isinstance(index, int) else 0, {"type": "function", "function": {}}
        )
        function = call.get("function")
        for name, value in (function if isinstance(function, dict) else {}).items():
            # A stream sends the name once and the arguments in pieces.
            before = known["function"].get(name)
            joined = (
                before + value if name == "arguments" and isinstance(before, str) and isinstance(value, str) else value
            )
            known["function"][name] = joined
        if call.get("id"):
            known["id"] = call["id"]


def choices_usage(reported: dict[str, Any]) -> Usage:
    """Return usage in the record's terms; what is missing of the two main counts is 0."""
    usage: Usage = {
        "input_tokens": count(reported, "prompt_tokens") or 0,
        "output_tokens": count(reported, "completion_tokens") or 0,
    }
    if "completion_tokens_details" in reported:
        usage["reasoning_tokens"] = count(reported["completion_tokens_details"], "reasoning_tokens")
    if "prompt_tokens_details" in reported:
        usage["cached_tokens"] = count(reported["prompt_tokens_details"], "cached_tokens")
    return usage
