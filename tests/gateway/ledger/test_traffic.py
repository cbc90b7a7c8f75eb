"""The record as a row: what goes in comes out, and what a column can't hold is kept under `extra`."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger.traffic import SCHEMA, from_row, to_table, today, validate
from tests.gateway.ledger.records import record

FULL = record(
    "full",
    origin="live",
    key="k1",
    user="Jürgen",
    model_requested="auto",
    model_role="teacher",
    route={"reason": "no_student", "adequacy": 0.25, "escalated": False},
    prompt=["one", "two"],
    response={"content": "yes", "choices": 1},
    tools=["search", "read"],
    parameters={"temperature": 0.5, "seed": 2**70, "stop": None},
    turns=1,
    usage={"input_tokens": 10, "output_tokens": 2, "reasoning_tokens": 0, "cached_tokens": 4, "source": "exact"},
    error="x",
    finish_reason="stop",
    latency_ms=12.5,
    time_to_first_token_ms=3.25,
    queue_ms=0.0,
    overhead_ms=1.5,
    cost=20_000,
    counterfactual_cost=40_000,
    client={"user_agent": "curl", "network": "10.0.0.0/24", "asn": 64500, "fingerprint": "f"},
    store=True,
    metadata={"conversation": "c1"},
    tags=["a"],
    fingerprint={
        "skeleton": "5e",
        "minhash": [2**32 - 1, *range(63)],
        "embedding": [-128, 127, *[0] * 126],
        "conversation": "c0",
    },
    extra={"request_id": "r"},
)


def _back(row: dict[str, Any]) -> dict[str, Any]:
    return from_row(to_table([row]).to_pylist()[0])


def test_a_full_record_survives_the_round_trip() -> None:
    """Every documented field comes back as it was written."""
    assert validate(FULL) == []
    assert _back(FULL) == FULL


def test_absent_fields_stay_absent() -> None:
    """A record with the required fields only has no others afterwards; null is the same as absent."""
    assert _back(record("a", user=None, route={"task": None})) == record("a", route={})


def test_the_table_has_the_schema_and_the_day_of_ingestion() -> None:
    """Rows are dated by the day they come in, whatever their own time."""
    table = to_table([record("a", time="2020-02-29T23:59:59.999Z")])
    assert table.schema.equals(SCHEMA)
    assert table["day"].to_pylist() == [today()]
    assert to_table([record("a")], "2026-01-01")["day"].to_pylist() == ["2026-01-01"]
    assert to_table([]).schema.equals(SCHEMA)


def test_times_are_utc_to_the_millisecond() -> None:
    """A time written with an offset comes back in UTC."""
    assert _back(record("a", time="2026-11-24T11:30:00+02:00"))["time"] == "2026-11-24T09:30:00.000Z"


def test_unknown_fields_are_kept_under_extra() -> None:
    """Fields of other systems, also inside objects, are neither lost nor mixed up with ours."""
    found = _back(record("a", team="blue", route={"reason": "r", "shard": 3}, extra={"own": 1}))
    assert found["extra"] == {"own": 1, "team": "blue", "route.shard": 3}
    assert found["route"] == {"reason": "r"}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"cost": 2**70}, {"cost": 2**70}),
        ({"latency_ms": "slow"}, {"latency_ms": "slow"}),
        ({"tools": [{"name": "x"}]}, {"tools": [{"name": "x"}]}),
        ({"route": "direct"}, {"route": "direct"}),
        ({"usage": {"input_tokens": 1.5}}, {"usage.input_tokens": 1.5}),
        ({"fingerprint": {"minhash": [1, 2]}}, {"fingerprint.minhash": [1, 2]}),
        ({"fingerprint": {"embedding": [[1]] * 128}}, {"fingerprint.embedding": [[1]] * 128}),
        ({"fingerprint": "abc"}, {"fingerprint": "abc"}),
        ({"extra": "text"}, {"extra": "text"}),
    ],
)
def test_a_value_that_no_column_holds_is_kept(fields: dict[str, Any], kept: dict[str, Any]) -> None:
    """One odd value neither fails the batch nor disappears."""
    assert _back(record("a", **fields))["extra"] == kept


def test_a_record_without_a_readable_time_is_still_a_row() -> None:
    """A live record is never refused for its time: it gets the moment of ingestion and keeps what was said."""
    found = _back(record("a", time="soon"))
    assert found["time"].endswith("Z")
    assert found["extra"] == {"time": "soon"}


def test_lone_surrogates_do_not_fail_the_batch() -> None:
    """Text that has no UTF-8 is stored with a question mark in columns, and as it was in JSON fields."""
    found = _back(record("a", user="x\ud800", messages=[{"role": "user", "content": "y\udfff"}]))
    assert found["user"] == "x?"
    assert found["messages"][0]["content"] == "y\udfff"
