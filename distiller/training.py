"""Trains a student on the teacher's answers: `python -m distiller.training --spec SPEC.json`, in `.venv-distiller`.

It is the child process of `spiritsafe distill train` and knows nothing of the gateway. The spec names a snapshot
folder with `train.parquet` (request, answer), the teacher's folder and an output folder, and says how to train; the
output is a model folder that vLLM serves, with `training.json` and `loss.svg`. Progress is one JSON line per step on
stdout; whatever goes wrong ends with one paragraph on stderr and a non-zero exit.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow.parquet
import torch
import transformers
from tqdm import tqdm

from distiller.chat import Example, PromptMismatchError, encode
from distiller.curve import write_curve
from distiller.fitting import DivergedError, Plan, Step, fit
from distiller.pruning import both_ends, keep_layers


class TrainingError(Exception):
    """Training cannot start or go on; the message says what to change."""


@dataclass(frozen=True)
class Spec:
    """What to train from what; `train` false writes the untrained baseline, the teacher with layers dropped."""

    snapshot: str
    teacher: str
    output: str
    layers: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    threads: int
    train: bool


def main(arguments: list[str] | None = None) -> int:
    """Run one training; 0 on success, 1 with a remedy on stderr otherwise."""
    parser = argparse.ArgumentParser(prog="python -m distiller.training", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="a JSON file with the fields of Spec")
    path = parser.parse_args(arguments).spec
    transformers.utils.logging.disable_progress_bar()
    try:
        run(read_spec(path))
    except (TrainingError, DivergedError, PromptMismatchError, MemoryError, RuntimeError, OSError) as error:
        print(remedy(error), file=sys.stderr)
        return 1
    return 0


def read_spec(path: Path) -> Spec:
    """Read and check a spec; raises TrainingError that names the field at fault."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path} is not JSON ({error}): write the fields {_names()}.") from error
    if set(values) != set(_names()):
        raise TrainingError(f"{path} must have exactly the fields {_names()}; it has {sorted(values)}.")
    for name, kind in get_type_hints(Spec).items():
        value = values[name]
        # JSON writes 1.0 as 1; a truth value is an integer to Python, but not a number of layers.
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TrainingError(f"{path}: {name} is {value!r}; it must be of type {kind.__name__}.")
    spec = Spec(**values)
    for name in ("layers", "epochs", "batch_size", "threads", "learning_rate"):
        if not getattr(spec, name) > 0:
            raise TrainingError(f"{path}: {name} is {getattr(spec, name)}; it must be above 0.")
    for folder, needed in ((spec.snapshot, "train.parquet"), (spec.teacher, "config.json")):
        if not Path(folder, needed).is_file():
            raise TrainingError(f"{path}: {folder} has no {needed}; name the right folder.")
    return spec


def run(spec: Spec) -> None:
    """Build the student, train it unless the spec says otherwise, and write the output folder, whole or not at all."""
    torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(spec.teacher)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(spec.teacher, dtype=torch.float32)
    examples = read_examples(Path(spec.snapshot, "train.parquet"), tokenizer)
    student, kept = build_student(teacher, spec.layers)
    del teacher  # its memory is needed for the optimiser
    started = time.monotonic()
    curve = _watched(student, examples, pad_of(tokenizer), spec) if spec.train else []
    write_output(student, tokenizer, spec, _record(student, spec, kept, examples, curve, time.monotonic() - started))


def read_examples(path: Path, tokenizer: Any) -> list[Example]:
    """The snapshot's training rows as token ids, in the file's order."""
    try:
        rows = pyarrow.parquet.read_table(path, columns=["request", "answer"]).to_pylist()
    except pyarrow.ArrowException as error:
        raise TrainingError(f"{path} cannot be read ({error}): freeze the snapshot anew.") from error
    if not rows:
        raise TrainingError(f"{path} has no rows: select more traffic (`spiritsafe distill select`).")
    return [encode(tokenizer, json.loads(row["request"]), row["answer"]) for row in rows]


def build_student(teacher: Any, layers: int) -> tuple[Any, list[int]]:
    """The pruned teacher and the indices of the layers that it keeps."""
    total = teacher.config.num_hidden_layers
    if layers > total:
        raise TrainingError(f"the teacher has {total} layers, {layers} cannot be kept: lower `layers`.")
    kept = both_ends(total, layers)
    return keep_layers(teacher, kept), kept


def train(
    student: Any, examples: list[Example], pad_id: int, plan: Plan, report: Callable[[Step, int], None]
) -> list[Step]:
    """Train the student's layers in place; its embeddings, which are also its vocabulary head, stay the teacher's."""
    student.get_input_embeddings().requires_grad_(False)
    return fit(student, examples, pad_id, plan, report)


def _watched(student: Any, examples: list[Example], pad_id: int, spec: Spec) -> list[Step]:
    plan = Plan(spec.epochs, spec.batch_size, spec.learning_rate, spec.seed)
    with tqdm(total=plan.steps(len(examples)), disable=not sys.stderr.isatty(), unit="step") as bar:
        return train(student, examples, pad_id, plan, _reporter(bar))


def _reporter(bar: Any) -> Callable[[Step, int], None]:
    def report(step: Step, steps: int) -> None:
        bar.update()
        bar.set_postfix(loss=f"{step.loss:.3f}")
        eta = step.seconds / step.step * (steps - step.step)
        print(json.dumps({"step": step.step, "steps": steps, "loss": step.loss, "eta_s": round(eta, 1)}), flush=True)

    return report


def write_output(student: Any, tokenizer: Any, spec: Spec, record: dict[str, Any]) -> None:
    """Write model, tokenizer, record and curve beside the output folder and rename them into place."""
    output = Path(spec.output)
    building = output.with_name(f".{output.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    student.save_pretrained(building)
    tokenizer.save_pretrained(building)
    with (building / "model.safetensors").open("rb") as weights:
        record["weights_sha256"] = hashlib.file_digest(weights, "sha256").hexdigest()
    (building / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    losses = [step["loss"] for step in record["curve"]]
    write_curve(building / "loss.svg", losses, f"Loss on the answers, {record['layers_kept']} layers, nats")
    shutil.rmtree(output, ignore_errors=True)
    os.replace(building, output)


def _record(
    student: Any, spec: Spec, kept: list[int], examples: list[Example], curve: list[Step], seconds: float
) -> dict[str, Any]:
    """What `training.json` says, but for the weights' hash."""
    parameters = sum(weight.numel() for weight in student.parameters())
    return {
        "settings": asdict(spec),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "layers_kept": kept,
        "parameters": parameters,
        "embedding_parameters": student.get_input_embeddings().weight.numel(),
        "trained_parameters": sum(w.numel() for w in student.parameters() if w.requires_grad) if curve else 0,
        "examples": len(examples),
        "tokens": sum(len(example.input_ids) for example in examples),
        "seconds": round(seconds, 1),
        "seconds_per_step": round(seconds / len(curve), 3) if curve else None,
        "curve": [asdict(step) for step in curve],
    }


def _names() -> list[str]:
    return [field.name for field in fields(Spec)]


def pad_of(tokenizer: Any) -> int:
    """The token that batches are padded with."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def remedy(error: Exception) -> str:
    """One paragraph that says what to change."""
    if isinstance(error, DivergedError):
        return "Training diverged: the loss is no longer a number. Halve `learning_rate` or raise `batch_size`."
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "Memory ran out. Halve `batch_size`, keep fewer `layers`, or end other processes, and train again."
    if isinstance(error, OSError):
        return f"A file could not be read or written: {error}. Check the paths in the spec and the free disk space."
    return f"Training failed: {error}"


if __name__ == "__main__":
    sys.exit(main())
