"""Has a model folder answer chats, many at a time and without a server: `python -m benchmarks.assessment_answers`.

In `.venv-distiller`: reads a JSON list of chats from stdin and writes a JSON list of {text, ended} to stdout, drawn at
temperature 0.7, 24 tokens at most.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from distiller.chat import prompt_ids

LONGEST, TEMPERATURE, AT_ONCE, SEED = 24, 0.7, 46, 7


def main(arguments: list[str] | None = None) -> int:
    """Answer the chats on stdin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assessment_answers", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(SEED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    json.dump(answer(model, tokenizer, json.load(sys.stdin)), sys.stdout)
    return 0


def answer(model: Any, tokenizer: Any, chats: list[list[dict[str, str]]]) -> list[dict[str, Any]]:
    """What the model says to each chat; chats of like length are answered together."""
    prompts = [prompt_ids(tokenizer, {"messages": chat}) for chat in chats]
    order = sorted(range(len(chats)), key=lambda place: len(prompts[place]))
    said: list[dict[str, Any]] = [{} for _ in chats]
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        padded = tokenizer.pad(
            {"input_ids": [prompts[place] for place in places]}, padding_side="left", return_tensors="pt"
        )
        with torch.inference_mode():
            written = model.generate(
                **padded, max_new_tokens=LONGEST, do_sample=True, temperature=TEMPERATURE, top_p=1.0, top_k=0
            )
        for place, ids in zip(places, written[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
            said[place] = {"text": tokenizer.decode(kept, skip_special_tokens=True).strip() or "…", "ended": ended}
        print(f"answered {start + len(places)} of {len(chats)}", file=sys.stderr, flush=True)
    return said


if __name__ == "__main__":
    sys.exit(main())
