"""Does a student of the demo's task pass the gate, whatever the seed? `make bench-demo-student`; half an hour.

Offline: the merged teacher labels the requests (`demo.answers`, batched, without a server; the demo does the same
through vLLM), five seeds are trained on its answers, and each student and the untrained baseline pass the distiller's
own gate or do not. Then vLLM serves teacher and student and their speed is measured in turns. The tickets' seed is not
one that anything was chosen on. Prints a table; the last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from benchmarks.serving_speed import compare
from demo.tickets import LABELS, Ticket, messages, tickets
from distiller.gate import Rule, Verdict, decide
from distiller.launch import Recipe

PYTHON = Path(".venv-distiller/bin/python")
TEACHER = Path("models/teacher")
TICKETS_SEED = 20261125
TRAIN, CALIBRATION, GATE = 950, 200, 450


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a trained seed fails the gate or the untrained student passes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo_student", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tickets-seed", type=int, default=TICKETS_SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-speed", action="store_true", help="leave vLLM out")
    for name, value in asdict(Recipe()).items():
        if name not in ("seed", "trained"):
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    if not PYTHON.is_file() or not TEACHER.is_dir():
        print("The distiller's environment or the teacher is missing: run `make setup-all` first.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    print(json.dumps(result))
    return 0 if all(row["passed"] for row in result["seeds"]) and not result["untrained"]["passed"] else 1


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Label, train, judge and time; the benchmark's figures."""
    drawn = tickets(options.tickets_seed, TRAIN + CALIBRATION + GATE)
    learnt, held_out = drawn[:TRAIN], drawn[TRAIN + CALIBRATION :]
    said = answer(TEACHER, [*learnt, *held_out], options.threads)
    write_snapshot(folder, learnt, said[:TRAIN])
    teacher_right = right(said[TRAIN:], held_out)
    rows = []
    for seed in range(1, options.seeds + 1):
        record = train(options, folder, folder / f"student-{seed}", seed, trained=True)
        rows.append(judged(folder / f"student-{seed}", record, teacher_right, held_out, options.threads))
        show(f"seed {seed}", rows[-1])
    record = train(options, folder, folder / "untrained", 1, trained=False)
    untrained = judged(folder / "untrained", record, teacher_right, held_out, options.threads)
    show("untrained", untrained)
    constant = max(sum(ticket.label == label for ticket in held_out) for label in LABELS) / GATE
    recipe = {name: getattr(options, name) for name in ("layers", "epochs", "batch_size", "learning_rate")}
    speed = None if options.no_speed else compare(TEACHER, folder / "student-1")
    return {
        "benchmark": "demo_student",
        "tickets_seed": options.tickets_seed,
        "train": TRAIN,
        "pairs": GATE,
        "recipe": recipe,
        "constant": round(constant, 4),
        "untrained": untrained,
        "seeds": rows,
        "speed": speed,
    }


def answer(model: Path, asked: list[Ticket], threads: int) -> list[str]:
    """The labels that a model folder gives, through the child that has torch."""
    command = [str(PYTHON), "-m", "demo.answers", "--model", str(model), "--threads", str(threads)]
    texts = json.dumps([ticket.text for ticket in asked])
    labels: list[str] = json.loads(subprocess.run(command, input=texts, stdout=-1, text=True, check=True).stdout)
    return labels


def right(said: list[str], asked: list[Ticket]) -> list[bool]:
    """Whether each answer is the ticket's label."""
    return [label == ticket.label for label, ticket in zip(said, asked, strict=True)]


def write_snapshot(folder: Path, learnt: list[Ticket], said: list[str]) -> None:
    """The part of a frozen snapshot that training reads: requests and the teacher's answers."""
    rows = [
        {
            "id": str(row),
            "conversation": str(row),
            "request": json.dumps({"messages": messages(t.text)}),
            "answer": label,
        }
        for row, (t, label) in enumerate(zip(learnt, said, strict=True))
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")


def train(options: argparse.Namespace, snapshot: Path, output: Path, seed: int, *, trained: bool) -> dict[str, Any]:
    """Run one training child; its record, with the seconds of the whole child as `wall_s`."""
    spec = {
        "snapshot": str(snapshot), "teacher": str(TEACHER), "output": str(output), "layers": options.layers,
        "epochs": options.epochs, "batch_size": options.batch_size, "learning_rate": options.learning_rate,
        "seed": seed, "threads": options.threads, "train": trained,
    }  # fmt: skip
    path = snapshot / "spec.json"
    path.write_text(json.dumps(spec))
    started = time.monotonic()
    subprocess.run(
        [str(PYTHON), "-m", "distiller.training", "--spec", str(path)], stdout=subprocess.DEVNULL, check=True
    )
    record: dict[str, Any] = json.loads((output / "training.json").read_text())
    return record | {"wall_s": round(time.monotonic() - started, 1)}


def judged(
    model: Path, record: dict[str, Any], teacher_right: list[bool], held_out: list[Ticket], threads: int
) -> dict[str, Any]:
    """The gate's verdict on a student, with how it was trained."""
    verdict = decide(right(answer(model, held_out, threads), held_out), teacher_right, Rule())
    return figures(verdict) | {
        "seed": record["settings"]["seed"], "train_s": record["wall_s"], "parameters": record["parameters"],
        "layers_kept": record["layers_kept"],
    }  # fmt: skip


def figures(verdict: Verdict) -> dict[str, Any]:
    """What the table and the report say of a verdict."""
    return {
        "passed": verdict.passed, "difference": round(verdict.difference, 4),
        "lower_bound": round(verdict.difference_lower_bound, 4), "student": share(verdict.student),
        "teacher": share(verdict.teacher),
    }  # fmt: skip


def share(counted: Any) -> list[float]:
    """Share of right answers and the ends of its Wilson interval."""
    return [round(value, 4) for value in (counted.share, counted.low, counted.high)]


def show(name: str, row: dict[str, Any]) -> None:
    """One line of the table."""
    teacher, student = row["teacher"], row["student"]
    print(
        f"{name:10} right {student[0]:.3f} [{student[1]:.3f}, {student[2]:.3f}]  teacher {teacher[0]:.3f}  "
        f"difference {row['difference']:+.3f} (bound {row['lower_bound']:+.3f})  "
        f"{'passes' if row['passed'] else 'fails'}  {row['train_s']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
