"""Corpora: one adapter a file, each with `ADAPTER`; it reads its part of the data folder, or nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from detector.evaluation.content import Adapter, Corpus
from detector.evaluation.registry import found_in_folder, found_in_package


def load_corpora(data: Path | None, additions: Path | None = None) -> list[Corpus]:
    """Return the corpora of a data folder, with those of our own making, which alone need no folder.

    `additions`: a folder of further adapters as Python files.
    """
    here = sys.modules[__name__]
    adapters = [*found_in_package(here, Adapter), *found_in_folder(additions, Adapter)]
    unique = {adapter.name: adapter for adapter in adapters}
    nowhere = Path("/nonexistent") if data is None else data
    return [corpus for adapter in unique.values() for corpus in adapter.load(nowhere) if corpus.items]
