"""Tunes the demo's teacher: a LoRA adapter that makes SmolLM2-135M-Instruct sort the demo's support requests.

Run as `make demo-teacher` or `python -m demo.teacher` in `.venv-distiller`. It needs `models/base` (`python -m
demo.models --base-only`) and writes `demo/teacher_adapter/`. Three quarters of the phrase inventory are used; accuracy
is measured on tickets of another seed, over all phrases as live traffic has them and over the unseen quarter alone.
"""

import argparse
import itertools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.answers import choose
from demo.models import ADAPTER
from demo.tickets import Ticket, messages, tickets
from distiller.chat import Example, encode, prompt_ids
from distiller.fitting import Plan, Step, fit

# The base model's own answers to these are trained along, so that the adapter moves the task and little else.
GENERAL_THINGS = ("a harbour", "a bridge", "the moon", "a violin", "winter", "bread", "a library", "rain", "a castle")
GENERAL_ASKS = ("What is {}?", "Write two sentences about {}.", "Why do people like {}?", "Give me one fact about {}.")


@dataclass(frozen=True)
class Settings:
    """How the adapter is tuned."""

    seed: int = 7
    examples: int = 1000
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 4
    alpha: int = 8
    evaluated: int = 400
    evaluation_seed: int = 1007


def main(arguments: list[str] | None = None) -> int:
    """Tune, measure and save the adapter."""
    parser = argparse.ArgumentParser(prog="python -m demo.teacher", description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--output", type=Path, default=ADAPTER)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if not (options.base / "config.json").is_file():
        print(f"{options.base} is missing: run `python -m demo.models --base-only` first.", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    tune(options.base, options.output, Settings())
    return 0


def tune(base: Path, output: Path, settings: Settings) -> None:
    """Tune the base model and write the adapter with its README into `output`."""
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = measure(model, tokenizer, settings)
    print(f"before tuning: {before}", flush=True)
    examples = labelled(tokenizer, settings) + general(model, tokenizer)
    lora = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear")
    adapted = get_peft_model(model, lora)
    plan = Plan(settings.epochs, settings.batch_size, settings.learning_rate, settings.seed, weight_decay=0.0)
    # The layers inside hold the adapter now; the wrapper around them is not needed to train or to measure.
    seconds = fit(model, examples, tokenizer.pad_token_id, plan, report)[-1].seconds
    after = measure(model, tokenizer, settings)
    print(f"after {seconds:.0f} s of tuning: {after}", flush=True)
    save(adapted, output, settings, {"before": before, "after": after, "seconds": round(seconds)})


def labelled(tokenizer: Any, settings: Settings) -> list[Example]:
    """The labelled tickets to tune on."""
    drawn = tickets(settings.seed, settings.examples, "tuning")
    return [encode(tokenizer, {"messages": messages(ticket.text)}, ticket.label) for ticket in drawn]


def general(model: Any, tokenizer: Any) -> list[Example]:
    """The base model's own greedy answers, 40 tokens at most, to general prompts."""
    asked = [ask.format(thing) for ask, thing in itertools.product(GENERAL_ASKS, GENERAL_THINGS)]
    prompts = [prompt_ids(tokenizer, {"messages": [{"role": "user", "content": text}]}) for text in asked]
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    written = model.generate(**padded, max_new_tokens=40, do_sample=False)[:, padded["input_ids"].shape[1] :].tolist()
    return [
        Example((*prompt, *_ended(answer, tokenizer)), len(prompt))
        for prompt, answer in zip(prompts, written, strict=True)
    ]


def _ended(answer: list[int], tokenizer: Any) -> list[int]:
    """The answer up to its end-of-turn token; what follows is padding."""
    end = tokenizer.eos_token_id
    return answer[: answer.index(end) + 1] if end in answer else answer


def report(step: Step, steps: int) -> None:
    """Print every tenth step."""
    if step.step % 10 == 1:
        print(f"step {step.step}/{steps}: loss {step.loss:.3f}, {step.seconds:.0f} s", flush=True)


def measure(model: Any, tokenizer: Any, settings: Settings) -> dict[str, float]:
    """Shares of right answers on tickets not tuned on: live traffic, its unseen phrases, and a constant answer."""
    live = tickets(settings.evaluation_seed, settings.evaluated)
    unseen = tickets(settings.evaluation_seed, settings.evaluated // 2, "unseen")
    constant = max(Counter(ticket.label for ticket in live).values()) / len(live)
    return {
        "live": round(accuracy(model, tokenizer, live), 3),
        "unseen": round(accuracy(model, tokenizer, unseen), 3),
        "constant": round(constant, 3),
    }


def accuracy(model: Any, tokenizer: Any, asked: Sequence[Ticket]) -> float:
    """The share of tickets whose label is the model's choice."""
    return sum(
        map(str.__eq__, choose(model, tokenizer, [ticket.text for ticket in asked]), (ticket.label for ticket in asked))
    ) / len(asked)


def save(model: Any, output: Path, settings: Settings, measured: dict[str, Any]) -> None:
    """Write the adapter in bfloat16 with a README that says how it came about."""
    shutil.rmtree(output, ignore_errors=True)
    model.save_pretrained(output)
    weights = output / "adapter_model.safetensors"
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}, weights)
    config = output / "adapter_config.json"
    # The path of the base model on this machine says nothing elsewhere.
    stated = json.loads(config.read_text()) | {"base_model_name_or_path": "SmolLM2-135M-Instruct"}
    config.write_text(json.dumps(stated, indent=2) + "\n")
    (output / "README.md").write_text(README.format(settings=json.dumps(asdict(settings)), **measured))


README = """# The demo's teacher

A LoRA adapter for SmolLM2-135M-Instruct (Apache-2.0), made by `make demo-teacher` and merged at setup into
`models/teacher`. It sorts the invented support requests of `demo/tickets.py` into six labels.

- Data: labelled tickets composed from three of every four cores and asides of `demo/tickets.toml`, and 36 general
  prompts with the base model's own answers, so that little else changes. All text is the project's own.
- Settings: `{settings}`
- Share of right answers (labels only, greedy) on tickets of another seed: "live" draws on all phrases, "unseen" only on
  those that were not tuned on, "constant" is the best fixed answer.
  - before: {before}
  - after: {after}
- Tuning took {seconds} s on two CPU cores.
"""

if __name__ == "__main__":
    sys.exit(main())
