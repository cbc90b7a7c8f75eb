"""Fingerprints: fixed for ever, near for near texts, and silent where there is no text."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gateway.ledger.fingerprint import complete, conversation, embedding, minhash, task_skeleton
from tests.gateway.ledger.records import record

TEXT = "Please classify the following support ticket into exactly one category: the parcel arrived late and was open."
WORDS = [f"w{number}" for number in range(500)]


def _body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Answer with a label."}, {"role": "user", "content": "a"}]
    return {"model": "auto", "messages": messages, "temperature": 0.5} | fields


def test_stored_fingerprints_stay_comparable() -> None:
    """These values stand in lakes: a change of the functions must not pass unseen."""
    assert task_skeleton("chat.completions", _body()) == "62e61a6150711719750c4a9569aa2c25"
    assert minhash(TEXT)[:3].tolist() == [53063500, 142356575, 637232173]
    assert embedding(TEXT)[:8].tolist() == [0, 52, 52, -52, -73, -73, 90, 0]
    assert conversation(record("a")) == "d7ce5ca42fac6bb2365c41662d49c74b"


def test_shapes_and_types() -> None:
    """64 uint32 and 128 int8, whatever the text; together with the skeleton at most 400 bytes."""
    for text in ("", "a", "two words", TEXT, "漢字かな", "\ud800", "x" * 100_000):
        assert (minhash(text).dtype, minhash(text).shape) == (np.dtype(np.uint32), (64,))
        assert (embedding(text).dtype, embedding(text).shape) == (np.dtype(np.int8), (128,))
    assert minhash(TEXT).nbytes + embedding(TEXT).nbytes + 16 <= 400


@pytest.mark.parametrize("changed", [0.1, 0.3, 0.6])
def test_minhash_estimates_jaccard_similarity(changed: float) -> None:
    """Over many pairs, the share of equal positions is the similarity of the shingle sets, within sampling error."""
    chance = random.Random(5)
    errors = []
    for _pair in range(40):
        words = chance.choices(WORDS, k=120)
        cut = int(len(words) * (1 - changed))
        other = words[:cut] + chance.choices(WORDS, k=len(words) - cut)
        sets = [{tuple(text[i : i + 3]) for i in range(len(text) - 2)} for text in (words, other)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        errors.append(float(np.mean(minhash(" ".join(words)) == minhash(" ".join(other)))) - true)
    assert abs(float(np.mean(errors))) < 0.03
    assert float(np.std(errors)) < 0.1


def test_embeddings_of_like_texts_are_near() -> None:
    """The cosine falls from the same text over one changed word to another subject."""
    near = embedding(TEXT.replace("parcel", "letter"))
    far = embedding("Write a poem about autumn leaves on the river while children are playing football.")
    assert _cosine(embedding(TEXT), embedding(TEXT.upper())) == pytest.approx(1.0)
    assert _cosine(embedding(TEXT), near) > 0.9
    assert _cosine(embedding(TEXT), far) < 0.5


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    left, right = one.astype(float), other.astype(float)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "system", "content": "Answer with a label."}, {"role": "user", "content": "else"}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "Answer with a label."}]}]},
        {"messages": [{"role": "developer", "content": "Answer with a label."}, {"role": "user", "content": "a"}] * 1},
        {"temperature": 0, "user": "u", "store": True, "metadata": {"a": "b"}, "tools": None, "response_format": None},
    ],
    ids=["other user text", "parts", "developer", "other parameters"],
)
def test_requests_of_one_task_share_a_skeleton(fields: dict[str, Any]) -> None:
    """What varies from request to request does not change the skeleton."""
    assert task_skeleton("chat.completions", _body(**fields)) == task_skeleton("chat.completions", _body())


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "system", "content": "Answer with two labels."}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_object"}},
        {"guided_choice": ["a", "b"]},
        {"structured_outputs": {"choice": ["a", "b"]}},
    ],
    ids=["system", "tools", "response_format", "guided", "structured_outputs"],
)
def test_another_task_has_another_skeleton(fields: dict[str, Any]) -> None:
    """System prompt, tools and output format each make a task."""
    assert task_skeleton("chat.completions", _body(**fields)) != task_skeleton("chat.completions", _body())


def test_the_endpoint_is_part_of_the_task() -> None:
    """The same body elsewhere is another task."""
    assert task_skeleton("responses", _body()) != task_skeleton("chat.completions", _body())


def test_tools_differ_by_more_than_their_names() -> None:
    """Two tools of one name with different parameters are different tasks."""
    one, other = ({"type": "function", "function": {"name": "f", "parameters": {"x": n}}} for n in (1, 2))
    skeletons = {task_skeleton("chat.completions", _body(tools=[tool])) for tool in (one, other)}
    assert len(skeletons) == 2


def test_turns_of_a_conversation_share_its_hash() -> None:
    """The first user message names the conversation, within an account; metadata's own name comes first."""
    first = record("a")
    later = record("b", messages=[*first["messages"], {"role": "assistant"}, {"role": "user", "content": "more"}])
    assert conversation(first) == conversation(later)
    assert conversation(first) != conversation(first | {"account": "other"})
    named = [record(name, metadata={"conversation": "c"}) for name in ("a", "b")]
    assert len({conversation(row) for row in named}) == 1
    assert conversation({"account": "app"}) is None


def test_what_is_there_is_not_computed_again() -> None:
    """A fingerprint that came with the record stands, and only the rest is added."""
    found = complete(record("a", fingerprint={"skeleton": "given", "minhash": [7] * 64}))["fingerprint"]
    assert found["skeleton"] == "given"
    assert found["minhash"] == [7] * 64
    assert len(found["embedding"]) == 128


def test_without_text_the_fingerprint_stays_as_it_came() -> None:
    """Where the text was not kept, nothing is made of its absence."""
    row = record("a", fingerprint={"skeleton": "given"})
    del row["messages"]
    assert complete(row)["fingerprint"] == {"skeleton": "given", "conversation": None}
