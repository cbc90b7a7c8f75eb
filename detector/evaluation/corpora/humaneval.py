"""HumanEval (Chen et al. 2021, MIT): functions to complete."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_lines


def _load(data: Path) -> list[Corpus]:
    rows = json_lines(data / "benign" / "humaneval" / "HumanEval.jsonl.gz")
    return [Corpus("humaneval", tuple(item(row["prompt"], row["canonical_solution"], "code") for row in rows))]


ADAPTER = Adapter("humaneval", _load)
