"""What is read from the lake's rows, and what is borne when it is missing."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from detector import columns
from detector.columns import Columns
from gateway.ledger import traffic
from tests.detector import histories


def _one(**changes: Any) -> Columns:
    row = histories.record("a", 0, histories.START, [histories.user("What is moss?")], 20)
    return columns.read(histories.to_table([{**row, **changes}]))


def test_rows_come_in_event_time_whatever_their_order() -> None:
    """The lake keeps rows in the order they were brought in; the detector reads them as they happened."""
    times = [histories.START + timedelta(seconds=s) for s in (5, 1, 3)]
    rows = [histories.record("a", i, t, [histories.user("x")], 1) for i, t in enumerate(times)]
    seen = columns.read(histories.to_table(rows))
    assert seen.time.tolist() == sorted(seen.time.tolist())
    assert seen.time[0] == (histories.START + timedelta(seconds=1)).timestamp()
    assert seen.id[0] == rows[1]["id"]


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
    seen = columns.read(traffic.to_table([record]))
    assert math.isnan(seen.output[0])
    assert math.isnan(seen.turns[0])
    assert not (seen.minhash_known | seen.embedding_known | seen.has_text)[0]
    assert (seen.user[0], seen.conversation[0], seen.skeleton[0]) == (0, 0, 0)
    assert seen.answered[0]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [({}, 0), ({"logprobs": True}, 1), ({"logprobs": True, "top_logprobs": 20}, 20), ({"logprobs": 5}, 5)],
)
def test_logprobs_of_both_endpoints_are_read(parameters: dict[str, Any], expected: int) -> None:
    """Chat says `logprobs: true` with `top_logprobs`, completions say how many."""
    assert _one(parameters=parameters).logprobs[0] == expected


def test_wording_is_looked_for_where_questions_stand() -> None:
    """Asking for the working counts at either end of a prompt, not somewhere within pages of context."""
    pages = "word " * 2_000
    for text, expected in (
        (f"Think step by step. {pages}", True),
        (f"{pages} Explain your reasoning.", True),
        (f"{pages} step by step {pages}", False),
    ):
        assert _one(messages=[histories.user(text)]).elicits[0] == expected


def test_instructions_are_known_by_their_length() -> None:
    """What stands before the first user's message is the application's; a bare question has nothing there."""
    bare = _one()
    long = _one(messages=[histories.system("You are " + "careful " * 20), histories.user("x")])
    assert bare.system[0] == 0
    assert long.system[0] > 160


def test_students_and_refusals_are_not_the_teacher() -> None:
    """Only what the teacher answered can leak; a client that left early had some of it."""
    assert not _one(model_role="student").answered[0]
    assert not _one(status=403, usage={"input_tokens": 3}).answered[0]
    assert _one(status=499).answered[0]


def test_odd_values_are_borne() -> None:
    """What an import lets through can't stop the detector: wrong types and signs become unknown or nothing."""
    seen = _one(
        messages=["not a message", {"role": "user", "content": None}],
        parameters={"n": 0, "seed": "x", "temperature": "hot", "top_logprobs": None, "logprobs": True},
        usage={"output_tokens": -5, "input_tokens": -1},
    )
    found = (seen.choices[0], seen.seed[0], seen.output[0], seen.input[0], seen.logprobs[0])
    assert found == (1, 0, 0.0, 0.0, 1)
    assert math.isnan(seen.temperature[0])


def test_without_usage_lengths_are_estimated() -> None:
    """A record that names no tokens is measured by its text."""
    seen = _one(usage=None, response={"content": "a" * 400})
    assert seen.output[0] == pytest.approx(100, abs=5)
    assert seen.input[0] > 0


def test_hashes_tell_strings_apart_and_are_the_same_everywhere() -> None:
    """Equal strings have equal hashes wherever they stand, others differ, and nothing is 0."""
    seen = columns.read(
        histories.to_table(
            histories.record("a", i, histories.START, [histories.user("x")], 1, user=name)
            for i, name in enumerate(("ada", "bob", None, "ada", "", "adab"))
        )
    )
    ada, bob, nobody, again, empty, longer = seen.user.tolist()
    assert ada == again != 0
    assert nobody == empty == 0
    assert len({ada, bob, longer}) == 3
    assert np.uint64(ada) == columns.hashes(pa.array(["ada"]))[0]
