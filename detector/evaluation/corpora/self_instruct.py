"""The seed tasks of self-instruct (Wang et al. 2023, Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_lines


def _load(data: Path) -> list[Corpus]:
    items = []
    for row in json_lines(data / "harvest" / "self_instruct" / "seed_tasks.jsonl.gz"):
        for instance in row["instances"]:
            items.append(item(f"{row['instruction']}\n{instance['input']}", instance["output"], row["name"]))
    return [Corpus("self_instruct", tuple(items))]


ADAPTER = Adapter("self_instruct", _load)
