"""Any other corpus: `corpora/NAME.jsonl` (or `.jsonl.gz`) in the data folder.

One object a line: `text` (required), `answer`, `topic`, `language` (ISO 639-1, of the first line, for all).
"""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_lines


def _load(data: Path) -> list[Corpus]:
    return [_corpus(file) for file in sorted((data / "corpora").glob("*.jsonl*"))]


def _corpus(file: Path) -> Corpus:
    rows = list(json_lines(file))
    items = tuple(item(row["text"], row.get("answer"), row.get("topic", "")) for row in rows)
    return Corpus(file.name.split(".")[0], items, rows[0].get("language", "en") if rows else "en")


ADAPTER = Adapter("added", _load)
