"""MT-Bench and Vicuna's questions (LMSYS, Apache-2.0): chat questions of one and two turns."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_lines


def _load(data: Path) -> list[Corpus]:
    items = []
    for name in ("mt_bench_question", "vicuna_bench_question"):
        for row in json_lines(data / "benign" / "mt_bench" / f"{name}.jsonl.gz"):
            first, *later = row["turns"]
            items.append(item(first, topic=row["category"], turns=[("", question) for question in later]))
    return [Corpus("mt_bench", tuple(items))]


ADAPTER = Adapter("mt_bench", _load)
