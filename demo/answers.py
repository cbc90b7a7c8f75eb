"""Asks a model folder for the labels of support requests, many at a time and without a server.

`python -m demo.answers --model DIR` in `.venv-distiller` reads a JSON list of requests from stdin and writes the list
of labels to stdout. It says what a server with constrained greedy output would say, only faster on a CPU.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from demo.tickets import LABELS, messages
from distiller.chat import Example, collate, prompt_ids
from distiller.losses import hidden_states


def main(arguments: list[str] | None = None) -> int:
    """Answer the requests on stdin."""
    parser = argparse.ArgumentParser(prog="python -m demo.answers", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    json.dump(choose(model, tokenizer, json.load(sys.stdin)), sys.stdout)
    return 0


def choose(model: Any, tokenizer: Any, texts: Sequence[str], size: int = 32) -> list[str]:
    """The label each request gets when the answer is constrained to the labels, greedily; each is one token."""
    label_ids = torch.tensor([tokenizer.encode(label)[0] for label in LABELS])
    prompts = [tuple(prompt_ids(tokenizer, {"messages": messages(text)})) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: len(prompts[index]))
    chosen = [""] * len(texts)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        # The end-of-turn token stands for the answer, so that the batch says where it begins.
        examples = [Example((*prompts[row], tokenizer.eos_token_id), len(prompts[row])) for row in rows]
        batch = collate(examples, tokenizer.pad_token_id)
        with torch.inference_mode():
            hidden, skipped = hidden_states(model, batch)
            last = torch.tensor([len(prompts[row]) - 1 - skipped for row in rows])
            logits = model.get_output_embeddings()(hidden[torch.arange(len(rows)), last])
        for row, best in zip(rows, logits[:, label_ids].argmax(dim=1).tolist(), strict=True):
            chosen[row] = LABELS[best]
    return chosen


if __name__ == "__main__":
    sys.exit(main())
