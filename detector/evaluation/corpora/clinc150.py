"""CLINC150 (Larson et al. 2019, CC-BY-3.0): requests to an assistant in 150 intents."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_of


def _load(data: Path) -> list[Corpus]:
    parts = json_of(data / "benign" / "clinc150" / "data_full.json.gz", {})
    return [Corpus("clinc150", tuple(item(said, topic=intent) for rows in parts.values() for said, intent in rows))]


ADAPTER = Adapter("clinc150", _load)
