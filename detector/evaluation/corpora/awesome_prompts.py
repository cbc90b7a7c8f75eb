"""Awesome ChatGPT prompts (CC0): roles that people ask a model to take."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import csv_rows


def _load(data: Path) -> list[Corpus]:
    rows = csv_rows(data / "benign" / "awesome_prompts" / "prompts.csv.gz")
    return [Corpus("awesome_prompts", tuple(item(row["prompt"], topic=row["act"]) for row in rows))]


ADAPTER = Adapter("awesome_prompts", _load)
