"""Banking77 (PolyAI, CC-BY-4.0): customers' questions in 77 intents."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import csv_rows


def _load(data: Path) -> list[Corpus]:
    rows = csv_rows(data / "benign" / "banking77" / "train.csv.gz")
    return [Corpus("banking77", tuple(item(row["text"], topic=row["category"]) for row in rows))]


ADAPTER = Adapter("banking77", _load)
