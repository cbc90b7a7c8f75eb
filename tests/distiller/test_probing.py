"""Probes in memory: what they learn and how it is measured. Runs in `.venv-distiller`."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="runs in .venv-distiller, through test_training_environment.py")
transformers = pytest.importorskip("transformers")

from distiller import probing  # noqa: E402
from distiller.chat import Example, collate, encode  # noqa: E402
from distiller.losses import answer_loss  # noqa: E402
from tests.distiller.test_training import COLOURS, teacher  # noqa: E402, F401

NUMBERS = {"grass": "seven", "snow": "three", "coal": "nine", "blood": "five"}


def _row(thing: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Name it."}, {"role": "user", "content": f"What of {thing}?"}]
    return {"messages": messages, "answer": answer, "ended": True}


@pytest.fixture
def work(teacher: Path) -> dict[str, Any]:  # noqa: F811
    """Work over colours (learnt by one side), numbers (by the other), and both to measure on."""
    rows = [_row(thing, answer) for side in (COLOURS, NUMBERS) for thing, answer in side.items()]
    return {
        "teacher": str(teacher), "layers": 3, "epochs": 6, "batch_size": 4, "learning_rate": 3e-3, "threads": 1,
        "longest_prompt": 40, "longest_answer": 8, "rows": rows,
        "held_out": {"domain": [0, 1, 2, 3], "general": [4, 5, 6, 7]},
        "probes": [
            {"side": "suspect", "seed": 1, "rows": [0, 1, 2, 3] * 6},
            {"side": "ordinary", "seed": 1, "rows": [4, 5, 6, 7] * 6},
        ],
    }  # fmt: skip


def test_each_side_is_better_at_what_it_learnt(
    work: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Work on stdin becomes steps and losses on stdout, row by row, and no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(work)))
    assert probing.main() == 0
    *steps, found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [step["step"] for step in steps] == list(range(1, 73))
    assert {step["steps"] for step in steps} == {72}
    suspect, ordinary = (sum(probe["losses"]["domain"]) for probe in found["probes"])
    assert suspect < ordinary / 2
    suspect, ordinary = (sum(probe["losses"]["general"]) for probe in found["probes"])
    assert ordinary < suspect / 2
    assert {len(found[side][kind]) for side in ("teacher", "untrained") for kind in ("domain", "general")} == {4}
    assert len(found["answer_tokens"]) == 8
    assert list(tmp_path.iterdir()) == []


def test_a_rows_loss_is_its_own(work: dict[str, Any]) -> None:
    """Losses come back in the order of the rows, however they are batched, and their mean is the training loss."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(work["teacher"])
    model = transformers.AutoModelForCausalLM.from_pretrained(work["teacher"])
    examples = [encode(tokenizer, row, row["answer"]) for row in work["rows"]]
    losses = probing.losses_of(model, examples, 2)
    with torch.inference_mode():
        alone = [answer_loss(model, collate([example], 2)).item() for example in examples]
        together = answer_loss(model, collate(examples, 2)).item()
    assert losses == pytest.approx(alone, rel=1e-4)
    assert sum(losses) / len(losses) == pytest.approx(together, rel=1e-4)


def test_long_rows_are_cut_towards_each_other() -> None:
    """The prompt's end and the answer's beginning stay; an answer cut short is not taught to end there."""
    whole = Example((1, 2, 3, 4, 10, 11, 12, 99), 4)
    assert probing.clipped(whole, 2, 3) == Example((3, 4, 10, 11, 12), 2)
    assert probing.clipped(whole, 9, 9) == whole
    assert probing.clipped(whole, 9, 9, ended=False) == Example((1, 2, 3, 4, 10, 11, 12), 4)
