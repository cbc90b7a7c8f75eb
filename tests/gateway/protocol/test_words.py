"""A chunk that is not read again says exactly what reading it would have said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.dialects.choices import ChoicesAnswer
from gateway.protocol.dialects.words import WordForm
from gateway.protocol.sse import payload_of, without_usage


def event(word: str, output: int = 1, **choice: Any) -> bytes:
    """Return a chunk as vLLM sends it with continuous usage."""
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "teacher",
        "choices": [{"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None} | choice],
        "usage": {"prompt_tokens": 7, "total_tokens": 7 + output, "completion_tokens": output},
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode()


def form() -> WordForm:
    """Return the form of such chunks."""
    found = WordForm.of(event("Hello"), "Hello")
    assert found is not None
    return found


@given(word=st.text(), output=st.integers(0, 10**15 - 1))
def test_what_it_reads_is_what_json_says(word: str, output: int) -> None:
    """Word, usage and what the client gets are those of the whole chunk; anything odd is left to be read."""
    given_event = event(word, output)
    found = form().read(given_event)
    if found is None:
        assert word == "" or not word.isprintable() or '"' in word or "\\" in word or len(str(7 + output)) > 15
        return
    payload = payload_of(given_event)
    chunk = json.loads(payload)
    assert found[0] == word
    assert json.loads(found[1]) == chunk["usage"]
    assert found[2] == b"data: " + without_usage(payload, chunk)


@pytest.mark.parametrize(
    "other",
    [
        event("Hello", finish_reason="stop"),
        event("Hello", logprobs={"content": []}),
        event("Hello", index=1),
        event("Hello").replace(b'"usage":{', b'"usage":{"prompt_tokens_details":{"cached_tokens":3},'),
        event("Hello").replace(b'"usage"', b'"error":{"message":"x"},"usage"'),
        event("Hello").replace(b'"total_tokens":8', b'"total_tokens":8,,'),
        event("Hello").replace(b',"total_tokens"', b'"total_tokens"'),
        event("Hello").replace(b'"total_tokens":8', b'"total_tokens":08'),
        event("Hello").replace(b"}}", b",}}"),
        event("Hello") + b"x",
        event("Hello")[:-1],
        event("Hello").replace(b"Hello", b"\xff"),
        event("Hello").replace(b"Hello", b"a\\u0041"),
        event("Hello").replace(b"Hello", b"a\tb"),
        b"data: [DONE]",
        b"",
    ],
)
def test_any_other_form_is_left_to_be_read(other: bytes) -> None:
    """An end, another choice, an error or broken bytes are never taken for a word."""
    assert form().read(other) is None


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (event("Hello", other='"content":"Hello"').replace(b'\\"', b'"'), "Hello"),
        (event("Hello"), "other"),
        (event("Hello").partition(b',"usage"')[0] + b"}", "Hello"),
        (event("Hello").replace(b'"total_tokens":8', b'"total_tokens":null'), "Hello"),
    ],
    ids=["twice", "absent", "no usage", "no number"],
)
def test_what_is_not_clear_is_not_learnt(odd: bytes, word: str) -> None:
    """The word must be there once, and plain usage behind it."""
    assert WordForm.of(odd, word) is None


def test_an_answer_adds_up_the_same() -> None:
    """Text, count of chunks and usage are the same whether chunks were read or passed."""
    events = [event(word, number) for number, word in enumerate(["Hi", " there", ",", " Ada", "!"], 1)]
    read, passed = ChoicesAnswer(), ChoicesAnswer()
    for number, one in enumerate(events):
        read.add_chunk(json.loads(payload_of(one)))
        if number < 2:
            passed.add_chunk(json.loads(payload_of(one)))
            passed.learn(one)
        else:
            assert passed.pass_word(one) is not None
    assert passed.response() == read.response()
    assert passed.usage == read.usage
    assert (passed.content_chunks, passed.choices) == (read.content_chunks, read.choices) == (5, 1)


def test_only_a_chunk_of_nothing_but_a_word_teaches() -> None:
    """A word with an end or with reasoning beside it would teach what is said only once."""
    answer = ChoicesAnswer()
    for odd in (event("a", finish_reason="length"), event("a", delta={"content": "a", "reasoning": "b"})):
        answer.add_chunk(json.loads(payload_of(odd)))
        assert not answer.learn(odd)
        assert answer.pass_word(odd) is None
