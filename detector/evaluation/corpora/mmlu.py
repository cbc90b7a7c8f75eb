"""MMLU's questions (Hendrycks et al. 2021, MIT), as RouteLLM publishes them: multiple choice in 57 subjects."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import csv_rows


def _load(data: Path) -> list[Corpus]:
    rows = csv_rows(data / "routing" / "routellm" / "mmlu_responses.csv.gz")
    return [Corpus("mmlu", tuple(item(row["prompt"], topic=row["subject"]) for row in rows))]


ADAPTER = Adapter("mmlu", _load)
