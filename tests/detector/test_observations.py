"""What is read from the lake's rows, and what is borne when it is missing."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from detector.observations import observe
from gateway.ledger import traffic
from tests.detector import histories


def _one(**changes: Any) -> Any:
    row = histories.record("a", 0, histories.START, [histories.user("What is moss?")], 20)
    return observe(histories.to_table([{**row, **changes}]))[0]


def test_rows_come_in_event_time_whatever_their_order() -> None:
    """The lake keeps rows in the order they were brought in; the detector reads them as they happened."""
    times = [histories.START + timedelta(seconds=s) for s in (5, 1, 3)]
    rows = [histories.record("a", i, t, [histories.user("x")], 1) for i, t in enumerate(times)]
    seen = observe(histories.to_table(rows))
    assert [one.time for one in seen] == sorted(one.time for one in seen)
    assert seen[0].time == (histories.START + timedelta(seconds=1)).timestamp()


def test_only_the_required_fields_are_required() -> None:
    """A record with nothing but the six required fields is read; what is unknown stays unknown."""
    record = {
        "id": "1",
        "time": "2026-11-02T00:00:00.000Z",
        "account": "a",
        "endpoint": "chat.completions",
        "model": "m",
        "status": 200,
    }
    (seen,) = observe(traffic.to_table([record]))
    assert math.isnan(seen.output)
    assert math.isnan(seen.turns)
    assert (seen.minhash, seen.embedding, seen.application, seen.has_text) == (None, None, None, False)
    assert seen.teacher


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"messages": [histories.system("You are a helpful assistant."), histories.user("x")]}, 0.0),
        ({"messages": [histories.system("You are " + "careful " * 20), histories.user("x")]}, 1.0),
        ({"tools": ["search"]}, 1.0),
        ({"parameters": {"response_format": {"type": "json_object"}}}, 1.0),
        ({"parameters": {"structured_outputs": {"choice": ["a", "b"]}}}, 1.0),
    ],
)
def test_an_application_is_known_by_what_it_sends_along(changes: dict[str, Any], expected: float) -> None:
    """Instructions of substance, tools and output formats make an application; a generic system prompt does not."""
    assert _one(**changes).application == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, 0), ({"logprobs": True}, 1), ({"logprobs": True, "top_logprobs": 20}, 20), ({"logprobs": 5}, 5)],
)
def test_logprobs_of_both_endpoints_are_read(parameters: dict[str, Any], expected: int) -> None:
    """Chat says `logprobs: true` with `top_logprobs`, completions say how many."""
    assert _one(parameters=parameters).top_logprobs == expected


def test_wording_is_looked_for_where_questions_stand() -> None:
    """Asking for the working counts at either end of a prompt, not somewhere within pages of context."""
    pages = "word " * 2_000
    for text, expected in (
        (f"Think step by step. {pages}", True),
        (f"{pages} Explain your reasoning.", True),
        (f"{pages} step by step {pages}", False),
    ):
        assert _one(messages=[histories.user(text)]).elicits is expected


def test_students_and_refusals_are_not_the_teacher() -> None:
    """Only what the teacher answered can leak; a client that left early had some of it."""
    assert not _one(model_role="student").teacher
    assert not _one(status=403, usage={"input_tokens": 3}).teacher
    assert _one(status=499).teacher


def test_odd_values_are_borne() -> None:
    """What an import lets through can't stop the detector: wrong types and signs become unknown or nothing."""
    seen = _one(
        messages=["not a message", {"role": "user", "content": None}],
        parameters={"n": 0, "seed": "x", "temperature": "hot", "top_logprobs": None, "logprobs": True},
        usage={"output_tokens": -5, "input_tokens": -1},
    )
    assert (seen.choices, seen.seed, seen.output, seen.input, seen.top_logprobs) == (1, None, 0.0, 0.0, 1)


def test_without_usage_lengths_are_estimated() -> None:
    """A record that names no tokens is measured by its text."""
    seen = _one(usage=None, response={"content": "a" * 400})
    assert seen.output == 100.0
    assert seen.input > 0


def test_without_text_the_skeleton_tells_a_bare_question() -> None:
    """Where only the fingerprint is kept, a skeleton of nothing is a bare question and another is something."""
    bare, other = (
        histories.without_text(histories.record("a", 0, histories.START, messages, 5))
        for messages in (
            [histories.user("x")],
            [histories.system("You sort tickets."), histories.user("x")],
        )
    )
    assert [observe(histories.to_table([row]))[0].application for row in (bare, other)] == [0.0, 0.5]
