"""Exact deduplication by normalised prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from distiller.deduplication import keep_first, prompt_key


@dataclass(frozen=True)
class Asked:
    id: str
    request: dict[str, Any]


def ask(text: object, system: str = "Label it.") -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": text}]}


def test_the_first_of_equal_prompts_stays() -> None:
    """Later repetitions are dropped and counted; the order of the others is kept."""
    rows = [Asked("a", ask("My parcel")), Asked("b", ask("The bill")), Asked("c", ask("my  PARCEL\n"))]
    kept, dropped = keep_first(rows)
    assert ([row.id for row in kept], dropped) == (["a", "b"], 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ask("ｆｕｌｌ width"), ask("full width")),
        (ask([{"type": "text", "text": "parts"}]), ask("parts")),
        (ask("Straße"), ask("STRASSE")),
    ],
)
def test_spelling_that_changes_nothing_is_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Unicode forms, case and the two shapes of content make no difference."""
    assert prompt_key(one) == prompt_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [(ask("a"), ask("b")), (ask("a"), ask("a", system="Other.")), (ask("1 2"), ask("12"))]
)
def test_different_prompts_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Another text, another system prompt or another word boundary is another prompt."""
    assert prompt_key(one) != prompt_key(other)
