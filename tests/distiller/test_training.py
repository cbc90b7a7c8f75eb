"""Training, from a snapshot on disk to a model folder on disk. Runs in `.venv-distiller`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="runs in .venv-distiller, through test_training_environment.py")
transformers = pytest.importorskip("transformers")
import pyarrow  # noqa: E402
import pyarrow.parquet  # noqa: E402

from distiller import losses  # noqa: E402
from distiller.chat import collate, encode  # noqa: E402
from distiller.fitting import Plan  # noqa: E402
from distiller.training import main  # noqa: E402

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random teacher of five small layers with the demo's tokenizer."""
    if not BASE.is_dir():
        pytest.skip("needs models/base: make setup-models")
    torch.manual_seed(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("teacher")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def spec(teacher: Path, tmp_path: Path) -> dict[str, Any]:
    """A spec over a snapshot of forty rows."""
    asked = list(COLOURS.items()) * 10
    rows = [
        {
            "id": f"{index}",
            "conversation": f"{index}",
            "request": json.dumps({"messages": _asked(thing)}),
            "answer": colour,
        }
        for index, (thing, colour) in enumerate(asked)
    ]
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), snapshot / "train.parquet")
    return {
        "snapshot": str(snapshot), "teacher": str(teacher), "output": str(tmp_path / "student"), "layers": 3,
        "epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "seed": 5, "threads": 1, "train": True,
    }  # fmt: skip


def _asked(thing: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Name the colour."}, {"role": "user", "content": f"What colour is {thing}?"}]


def _run(spec: dict[str, Any], folder: Path) -> int:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    return main(["--spec", str(path)])


def _record(spec: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(spec["output"], "training.json").read_text())
    return record


def test_a_student_learns_its_rows(spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training writes a smaller model that loads, the loss falls, and each step is one JSON line on stdout."""
    assert _run(spec, tmp_path) == 0
    record = _record(spec)
    losses = [step["loss"] for step in record["curve"]]
    assert losses[-1] < losses[0] / 2
    assert len(losses) == record["curve"][-1]["step"] == 6 * 5
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(line) for line in lines] == [{"step", "steps", "loss", "eta_s"}] * 30
    student = transformers.AutoModelForCausalLM.from_pretrained(spec["output"])
    assert len(student.model.layers) == len(record["layers_kept"]) == 3
    assert Path(spec["output"], "loss.svg").read_text().startswith("<svg")
    assert transformers.AutoTokenizer.from_pretrained(spec["output"]).chat_template


def test_the_same_seed_trains_the_same_weights(spec: dict[str, Any], tmp_path: Path) -> None:
    """Seed and threads decide the weights; another seed gives others."""
    hashes = []
    for seed in (5, 5, 6):
        assert _run({**spec, "epochs": 1, "seed": seed}, tmp_path) == 0
        hashes.append(_record(spec)["weights_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_untrained_baseline_is_the_teacher_with_fewer_layers(spec: dict[str, Any], tmp_path: Path) -> None:
    """With "train" false the kept layers are the teacher's, unchanged, and the record says that nothing was trained."""
    assert _run({**spec, "train": False}, tmp_path) == 0
    record = _record(spec)
    assert record["trained_parameters"] == 0
    assert record["curve"] == []
    student = transformers.AutoModelForCausalLM.from_pretrained(spec["output"])
    teacher = transformers.AutoModelForCausalLM.from_pretrained(spec["teacher"])
    for position, kept in enumerate(record["layers_kept"]):
        before, after = teacher.model.layers[kept].state_dict(), student.model.layers[position].state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_embeddings_stay_the_teachers(spec: dict[str, Any], tmp_path: Path) -> None:
    """Only the layers are trained; the embeddings and the head tied to them are not."""
    assert _run({**spec, "epochs": 1}, tmp_path) == 0
    student = transformers.AutoModelForCausalLM.from_pretrained(spec["output"])
    teacher = transformers.AutoModelForCausalLM.from_pretrained(spec["teacher"])
    assert torch.equal(student.model.embed_tokens.weight, teacher.model.embed_tokens.weight)
    assert not torch.equal(student.model.norm.weight, teacher.model.norm.weight)


def test_divergence_ends_with_a_remedy(
    spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss that is no number stops training: exit 1, one paragraph, no output folder and no trace."""
    assert _run({**spec, "learning_rate": math.exp(80)}, tmp_path) == 1
    error = capsys.readouterr().err
    assert "learning_rate" in error
    assert "Traceback" not in error
    assert not Path(spec["output"]).exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": 9}, "layers"),
        ({"epochs": 0}, "epochs"),
        ({"teacher": "/nowhere"}, "/nowhere"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_spec_names_its_field(
    spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], named: str
) -> None:
    """A spec that cannot work ends at once with the field that is wrong."""
    assert _run({**spec, **change}, tmp_path) == 1
    assert named in capsys.readouterr().err


def test_computing_the_shared_prompt_once_changes_nothing(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are the same whether the common prefix is computed once or for every row."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher)
    model = transformers.AutoModelForCausalLM.from_pretrained(teacher)
    batch = collate([encode(tokenizer, {"messages": _asked(thing)}, COLOURS[thing]) for thing in COLOURS], 2)
    assert losses.common_prefix(batch) > losses.WORTHWHILE
    results = []
    for worthwhile in (losses.WORTHWHILE, 10_000):
        monkeypatch.setattr(losses, "WORTHWHILE", worthwhile)
        model.zero_grad()
        loss = losses.answer_loss(model, batch)
        loss.backward()
        results.append((loss.item(), model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    largest = results[1][1].abs().max()
    assert torch.allclose(results[0][1] / largest, results[1][1] / largest, atol=1e-5)


def test_the_learning_rate_rises_and_falls() -> None:
    """The rate climbs during the warm-up, peaks at its full value and nears zero at the end."""
    plan = Plan(epochs=2, batch_size=10, learning_rate=1.0, seed=0, warmup=0.1)
    rates = [plan.rate(step, plan.steps(100)) for step in range(plan.steps(100))]
    assert rates[0] == 0.5
    assert max(rates) == rates[1] == 1.0
    assert rates[-1] < 0.1
