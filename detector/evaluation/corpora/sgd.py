"""Schema-guided dialogues (Google, CC-BY-SA-4.0): conversations of several turns about services."""

from __future__ import annotations

from pathlib import Path

from detector.evaluation.content import Adapter, Corpus, Item, item
from detector.evaluation.corpora.reading import json_of


def _load(data: Path) -> list[Corpus]:
    files = sorted((data / "benign" / "sgd").glob("dialogues_*.json.gz"))
    dialogues = [dialogue for file in files for dialogue in json_of(file, [])]
    return [Corpus("sgd", tuple(each for dialogue in dialogues for each in _items(dialogue)))]


def _items(dialogue: dict[str, object]) -> list[Item]:
    turns = dialogue["turns"]
    services = dialogue["services"]
    assert isinstance(turns, list)
    assert isinstance(services, list)
    said = [str(turn["utterance"]) for turn in turns]
    users, answers = said[0::2], said[1::2]
    # Each turn of the user is an item, which what follows it continues.
    return [
        item(users[at], topic=str(services[0]), turns=list(zip(answers[at:], users[at + 1 :], strict=False)))
        for at in range(len(users))
        if len(users[at]) > 30
    ]


ADAPTER = Adapter("sgd", _load)
