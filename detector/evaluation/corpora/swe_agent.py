"""Trajectories of SWE-agent (MIT): what tools said, and what the agent did next."""

from __future__ import annotations

import itertools
from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, item
from detector.evaluation.corpora.reading import json_of


def _load(data: Path) -> list[Corpus]:
    items = []
    for file in sorted((data / "benign" / "swe_agent").glob("*.traj.gz")):
        history = json_of(file, {}).get("history", [])
        pairs = [(str(seen["content"]), str(done["content"])) for seen, done in itertools.pairwise(history)
                 if seen["role"] == "user" and done["role"] == "assistant"]  # fmt: skip
        for at, (seen, done) in enumerate(pairs):
            turns = [(said, asked) for (_, said), (asked, _) in itertools.pairwise(pairs[at:])]
            items += [item(seen, done, file.stem, turns)] if seen.strip() and done.strip() else []
    return [Corpus("swe_agent", tuple(items))]


ADAPTER = Adapter("swe_agent", _load)
