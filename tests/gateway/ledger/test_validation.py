"""The compiled checks agree with a full JSON Schema validator, and say what to mend."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.validation import SCHEMA_FILE, validate
from tests.gateway.ledger.records import record
from tests.properties import examples

_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=(ValueError, OverflowError))
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or ("T" in value and from_rfc3339(value) is not None)


_REFERENCE = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()), format_checker=_FORMATS)

_FULL = record(
    "full",
    origin="synthetic",
    key=None,
    user="u",
    model_requested="auto",
    model_role="student",
    route={"reason": "adequate", "task": None, "adequacy": 0.5, "certificate": None, "escalated": False, "new": [1]},
    response={"content": None, "reasoning": "r", "tool_calls": [{}], "choices": 0, "new": 1},
    tools=["search"],
    parameters={"temperature": 1, "n": 2, "stop": ["a"], "logprobs": True, "logit_bias": {}, "response_format": None},
    turns=3,
    usage={"input_tokens": 1, "output_tokens": 2.0, "source": "counted"},
    error=None,
    finish_reason="stop",
    latency_ms=1.5,
    time_to_first_token_ms=None,
    queue_ms=0,
    cost=0,
    counterfactual_cost=2**80,
    client={"user_agent": "x", "network": None, "asn": 7, "fingerprint": "f"},
    store=True,
    metadata={"a": "b"},
    tags=["t"],
    fingerprint={"skeleton": "s", "minhash": [1], "embedding": [-128, 127]},
    extra={"anything": {"at": ["all"]}},
    unknown=object,
)
_FULL["unknown"] = {"kept": True}

_BAD: list[tuple[dict[str, Any], str]] = [
    ({"id": 7}, "id must be text, not 7"),
    ({"time": "yesterday"}, 'time is "yesterday": write it as RFC 3339'),
    ({"time": "2026-11-24T09:30:00"}, "time is"),
    ({"time": "2026-13-24T09:30:00Z"}, "time is"),
    ({"origin": "dream"}, 'origin is "dream": write one of "live", "imported", "synthetic"'),
    ({"endpoint": "chat"}, 'endpoint is "chat"'),
    ({"model": None}, "model must be text"),
    ({"model_role": "judge"}, "model_role is"),
    ({"route": []}, "route must be an object"),
    ({"route": {"escalated": 1}}, "route.escalated must be true or false, not 1"),
    ({"messages": "hello"}, "messages must be a list"),
    ({"messages": [{"role": "user"}, {"content": "x"}]}, r"messages[1].role is missing"),
    ({"messages": [{"role": 1}]}, r"messages[0].role must be text"),
    ({"prompt": 3}, "prompt must be text or a list"),
    ({"response": {"choices": -1}}, "response.choices is -1: write 0 or more"),
    ({"tools": [{"name": "search"}]}, r"tools[0] must be text"),
    ({"parameters": {"n": 1.5}}, "parameters.n must be a whole number or null"),
    ({"parameters": {"stream": "yes"}}, "parameters.stream must be true or false"),
    ({"turns": True}, "turns must be a whole number, not true"),
    ({"usage": {"input_tokens": "many"}}, "usage.input_tokens must be a whole number"),
    ({"usage": {"source": "guess"}}, "usage.source is"),
    ({"status": "200"}, "status must be a whole number"),
    ({"latency_ms": -0.5}, "latency_ms is -0.5: write 0 or more"),
    ({"cost": 0.5}, "cost must be a whole number"),
    ({"store": "true"}, "store must be true or false"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata has 17 entries: at most 16"),
    ({"fingerprint": {"embedding": [128]}}, r"fingerprint.embedding[0] is 128: write 127 or less"),
    ({"extra": "x"}, "extra must be an object"),
]


def _reference_accepts(value: object) -> bool:
    return bool(_REFERENCE.is_valid(value))


@pytest.mark.parametrize("good", [record("a"), _FULL, record("p", prompt=["a", "b"], key=None, cost=3.0)])
def test_good_records_pass(good: dict[str, Any]) -> None:
    """A record in the documented form has no problems, unknown fields and huge numbers included."""
    assert _reference_accepts(good)
    assert validate(good) == []


@pytest.mark.parametrize(("fields", "message"), _BAD, ids=[message for _fields, message in _BAD])
def test_a_bad_field_is_named_with_its_remedy(fields: dict[str, Any], message: str) -> None:
    """One problem, at the field that has it, in words that say what to write."""
    bad = record("bad", **fields)
    assert not _reference_accepts(bad)
    (problem,) = validate(bad)
    assert message in problem


@pytest.mark.parametrize("name", ["id", "time", "account", "endpoint", "model", "status"])
def test_a_missing_field_is_named(name: str) -> None:
    """Each of the six required fields is asked for."""
    bad = record("bad")
    del bad[name]
    assert validate(bad) == [f"{name} is missing: every record needs it"]


@pytest.mark.parametrize("line", [[], "text", 3, None])
def test_what_is_no_object_is_refused(line: object) -> None:
    """A line that holds something else than an object says so."""
    assert len(validate(line)) == 1
    assert "must be an object" in validate(line)[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["live", "x", "200", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "n", "source"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(sorted(_FULL)), _JSON)
def test_any_value_in_any_field_is_judged_as_the_schema_does(name: str, value: object) -> None:
    """The compiled checks accept exactly what a full validator accepts."""
    candidate = _FULL | {name: value}
    assert (validate(candidate) == []) == _reference_accepts(candidate)
