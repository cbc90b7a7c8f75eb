"""Another corpus, profile or strategy is one small file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from detector.evaluation.attacks import attack_strategies
from detector.evaluation.benign import benign_profiles
from detector.evaluation.corpora import load_corpora
from detector.evaluation.planning import Size, World
from detector.evaluation.simulation import simulate
from detector.evaluation.traces import load_clients
from gateway.ledger.content import text_of

STRATEGY = """
from detector.evaluation.profiles import Cell, Strategy

def _asks(member, campaign):
    while True:
        yield member.plain(member.next(), text="An attack that nobody has seen.")

STRATEGY = Strategy("A99", "from a file", _asks, (Cell(1, 1_000),))
"""


def test_a_strategy_from_a_folder_joins_the_others(tmp_path: Path) -> None:
    """A Python file with a `Strategy` is enough; its campaigns are simulated like the rest."""
    (tmp_path / "unseen.py").write_text(STRATEGY)
    world = World(load_corpora(None), load_clients(None), benign_profiles(tmp_path), attack_strategies(tmp_path))
    plan = next(plan for plan in world.plan(Size(5, 1, 30), 0) if plan.code == "A99")
    history = simulate(plan, world)
    harvested = [record for record, truth in zip(history.records, history.harvest.tolist(), strict=True) if truth]
    assert all("An attack that nobody has seen." in text_of(record) for record in harvested)


def test_a_corpus_is_a_file_of_lines(tmp_path: Path) -> None:
    """`corpora/NAME.jsonl.gz` in the data folder is a corpus, with its answers and its language."""
    (tmp_path / "corpora").mkdir()
    rows = [{"text": f"Frage {number}?", "answer": "Ja.", "topic": "t", "language": "de"} for number in range(3)]
    content = "\n".join(map(json.dumps, rows)).encode()
    (tmp_path / "corpora" / "fragen.jsonl.gz").write_bytes(gzip.compress(content))
    corpus = next(corpus for corpus in load_corpora(tmp_path) if corpus.name == "fragen")
    assert (corpus.language, corpus.has_answers, len(corpus.items)) == ("de", True, 3)


def test_without_a_folder_there_are_prompts_and_rates_of_our_own() -> None:
    """Five languages, hundreds of prompts each, and clients with different days."""
    corpora = load_corpora(None)
    assert {corpus.language for corpus in corpora} == {"en", "de", "fr", "es", "cs"}
    assert all(len(corpus.items) > 400 for corpus in corpora)
    assert len(load_clients(None)) >= 40
