"""GPTeacher (teknium1, MIT): prompts and answers that models were distilled from."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_of


def _load(data: Path) -> list[Corpus]:
    items = []
    for topic in ("codegen", "roleplay"):
        for row in json_of(data / "harvest" / "gpteacher" / f"{topic}-instruct.json.gz", []):
            asked = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
            items += [item(asked, row["response"], topic)] if row["response"].strip() else []
    return [Corpus("gpteacher", tuple(items))]


ADAPTER = Adapter("gpteacher", _load)
