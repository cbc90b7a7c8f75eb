"""A whole batch at once gives the column that looking at each value gives, or says that it can't."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pytest

from gateway.ledger.columns import ARROW, plain
from gateway.ledger.traffic import to_table
from tests.gateway.ledger.records import record

PRINT = list(range(64))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("text", ["a", None, "Ü"], ["a", None, "Ü"]),
        ("integer", [1, None, -(2**63)], [1, None, -(2**63)]),
        ("number", [1.5, None, 2], [1.5, None, 2.0]),
        ("boolean", [True, None], [True, None]),
        ("json", [{"a": [1, None]}, None, "x", 5], ['{"a":[1,null]}', None, '"x"', "5"]),
        ("texts", [["a"], None, []], [["a"], None, []]),
        ("minhash", [PRINT, None, [2**32 - 1] * 64], [PRINT, None, [2**32 - 1] * 64]),
        ("minhash", [bytes(256), None], [[0] * 64, None]),
        ("embedding", [[-128] * 128, None], [b"\x80" * 128, None]),
        ("embedding", [bytes(128), None], [bytes(128), None]),
        ("integer", [None, None], [None, None]),
    ],
)
def test_plain_values_are_a_column(kind: str, values: list[Any], expected: list[Any]) -> None:
    """Every kind, with gaps."""
    made = plain(kind, values)
    assert made is not None
    assert made.type == ARROW[kind]
    assert made.to_pylist() == expected


@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        ("text", 5),
        ("text", "\ud800"),
        ("integer", True),
        ("integer", 2**63),
        ("integer", 1.0),
        ("number", True),
        ("number", 2**63 + 1),
        ("boolean", 1),
        ("json", {"seed": 2**70}),
        ("json", "\ud800"),
        ("texts", ["a", None]),
        ("texts", [1]),
        ("texts", "a"),
        ("time", None),
        ("time", "soon"),
        ("time", "2026-11-24T09:30:00"),
        ("time", 5),
        ("minhash", [1]),
        ("minhash", [-1] * 64),
        ("minhash", [True] * 64),
        ("minhash", bytes(255)),
        ("minhash", [[1]] * 64),
        ("embedding", [128] * 128),
        ("embedding", [0.0] * 128),
        ("embedding", b""),
    ],
)
def test_anything_else_is_left_to_a_closer_look(kind: str, odd: Any) -> None:
    """A value that the column might not hold is never forced into it, and never raises."""
    assert plain(kind, [odd]) is None


def test_one_odd_record_leaves_the_others_as_they_were() -> None:
    """In a batch with values of every odd sort the plain rows are those of a batch without."""
    full = record("a", cost=1, tags=["x"], usage={"input_tokens": 1}, fingerprint={"minhash": PRINT})
    odd = record("b", cost="1", tags=[1], usage=[1], time="soon", fingerprint={"minhash": "x", "more": 1}, own=2)
    odd["messages"] = [2**70]
    mixed = to_table([full, odd, full], "2026-11-24")
    assert mixed.slice(0, 1) == mixed.slice(2, 1) == to_table([full], "2026-11-24")
    assert isinstance(mixed["extra"][1].as_py(), str)
    assert pc.is_null(mixed["extra"]).to_pylist() == [True, False, True]
