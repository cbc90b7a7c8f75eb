"""databricks-dolly-15k, a sample (CC-BY-SA-3.0): instructions that people wrote."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_of


def _load(data: Path) -> list[Corpus]:
    rows = json_of(data / "benign" / "dolly" / "dolly_3k.json.gz", [])
    asked = (item(f"{row['instruction']}\n{row['input']}", row["output"], row["category"]) for row in rows)
    return [Corpus("dolly", tuple(each for each in asked if each.text and each.answer))]


ADAPTER = Adapter("dolly", _load)
