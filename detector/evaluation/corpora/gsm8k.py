"""GSM8K (Cobbe et al. 2021, MIT): grade-school mathematics with worked answers."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_lines


def _load(data: Path) -> list[Corpus]:
    rows = json_lines(data / "harvest" / "gsm8k" / "gsm8k_train.jsonl.gz")
    return [Corpus("gsm8k", tuple(item(row["question"], row["answer"], "mathematics") for row in rows))]


ADAPTER = Adapter("gsm8k", _load)
