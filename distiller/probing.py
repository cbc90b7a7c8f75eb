"""Trains an assessment's probes and measures them: `python -m distiller.probing`, in `.venv-distiller`.

It is the child process of `spiritsafe distill assess`. What it is to do comes as one JSON document on stdin, what it
found goes to stdout as one JSON line, after a line for every step. Rows and weights are in its memory alone and end
with it: it opens no file to write, and its parent has the kernel refuse it one.
"""

import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from distiller.chat import Example, PromptMismatchError, collate, encode
from distiller.fitting import DivergedError, Plan, Step
from distiller.losses import answer_losses
from distiller.training import TrainingError, build_student, pad_of, remedy, train

MEASURED_AT_ONCE = 16


@dataclass(frozen=True)
class Work:
    """What to train on what, as places in `rows`: {messages, answer, ended}, `ended` false where it was cut short.

    `held_out`: the rows to measure on, by name. `probes`: {side, seed, rows} each. The longest prompt and answer are in
    tokens; of a longer prompt the end is kept, of a longer answer the beginning.
    """

    teacher: str
    layers: int
    epochs: int
    batch_size: int
    learning_rate: float
    threads: int
    longest_prompt: int
    longest_answer: int
    rows: list[dict[str, Any]]
    held_out: dict[str, list[int]]
    probes: list[dict[str, Any]]


def main() -> int:
    """Do the work on stdin; 0 on success, 1 with a remedy on stderr otherwise."""
    transformers.utils.logging.disable_progress_bar()
    # Python looks for a temporary folder by writing to it, which nothing here can; this one is swept.
    tempfile.tempdir = str(Path(__file__).parent.parent)
    try:
        found = run(Work(**json.load(sys.stdin)))
    except (TrainingError, DivergedError, PromptMismatchError, MemoryError, RuntimeError, OSError) as error:
        print(remedy(error), file=sys.stderr)
        return 1
    print(json.dumps(found), flush=True)
    return 0


def run(work: Work) -> dict[str, Any]:
    """Train every probe and return, by held-out set, the losses of the teacher, of the untrained student and of each.

    A loss is the mean negative log-likelihood of the teacher's answer in nats a token, row by row.
    """
    torch.set_num_threads(work.threads)
    torch.use_deterministic_algorithms(True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(work.teacher)
    pad_id = pad_of(tokenizer)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(work.teacher, dtype=torch.float32).eval()
    examples = [_example(tokenizer, row, work.longest_prompt, work.longest_answer) for row in work.rows]

    def measured(model: Any) -> dict[str, list[float]]:
        return {
            name: losses_of(model, [examples[place] for place in places], pad_id)
            for name, places in work.held_out.items()
        }

    found: dict[str, Any] = {"teacher": measured(teacher)}
    untrained, kept = build_student(teacher, work.layers)
    del teacher  # its memory is needed for the optimiser
    found["untrained"] = measured(untrained.eval())
    report = _reporter(work)
    found["probes"] = []
    for probe in work.probes:
        student = copy.deepcopy(untrained)
        torch.manual_seed(probe["seed"])
        plan = Plan(work.epochs, work.batch_size, work.learning_rate, probe["seed"])
        train(student, [examples[place] for place in probe["rows"]], pad_id, plan, report)
        found["probes"].append({"side": probe["side"], "seed": probe["seed"], "losses": measured(student)})
    parameters = sum(weight.numel() for weight in untrained.parameters())
    return found | {
        "layers_kept": kept,
        "parameters": parameters,
        "answer_tokens": [len(example.input_ids) - example.answer_start for example in examples],
    }


def losses_of(model: Any, examples: Sequence[Example], pad_id: int) -> list[float]:
    """Return each answer's mean negative log-likelihood in nats a token, in the order given."""
    order = sorted(range(len(examples)), key=lambda place: len(examples[place].input_ids))
    losses = [0.0] * len(examples)
    for start in range(0, len(order), MEASURED_AT_ONCE):
        places = order[start : start + MEASURED_AT_ONCE]
        with torch.inference_mode():
            batch = answer_losses(model, collate([examples[place] for place in places], pad_id))
        for place, loss in zip(places, batch.tolist(), strict=True):
            losses[place] = loss
    return losses


def clipped(example: Example, prompt: int, answer: int, *, ended: bool = True) -> Example:
    """Return the last tokens of its prompt and the first ones of its answer, at most so many of each.

    Where the answer had not ended, the token that ends it was never said and is left out.
    """
    ids, start = example.input_ids, example.answer_start
    said = ids[start:] if ended else ids[start:-1]
    kept = ids[max(0, start - prompt) : start]
    return Example((*kept, *said[:answer]), len(kept))


def _example(tokenizer: Any, row: Mapping[str, Any], prompt: int, answer: int) -> Example:
    whole = encode(tokenizer, {"messages": row["messages"]}, row["answer"])
    return clipped(whole, prompt, answer, ended=row["ended"])


def _reporter(work: Work) -> Callable[[Step, int], None]:
    """Report steps as those of all probes together."""
    steps = sum(-(-len(probe["rows"]) // work.batch_size) * work.epochs for probe in work.probes)
    done, started = 0, time.monotonic()

    def report(step: Step, _steps: int) -> None:
        nonlocal done
        done += 1
        eta = (time.monotonic() - started) / done * (steps - done)
        print(json.dumps({"step": done, "steps": steps, "loss": step.loss, "eta_s": round(eta, 1)}), flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
