"""Plays the child of an assessment: reads the work, prints steps and losses. The number of layers chooses its part."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

FAILS, HANGS, GOOD, WRITES = 1, 2, 3, 4
AHEAD = {"domain": 0.5, "general": -0.25}  # nats a token that the suspect's probes are ahead


def main() -> int:
    """Play one assessment."""
    work: dict[str, Any] = json.load(sys.stdin)
    print("a library's own word", flush=True)
    print(json.dumps({"step": 1, "steps": 2, "loss": 3.0, "eta_s": 1.0}), flush=True)
    if work["layers"] == FAILS:
        print("Memory ran out. End other processes, and assess again.", file=sys.stderr)
        return 1
    if work["layers"] == HANGS:
        time.sleep(60)
    if work["layers"] == WRITES:
        Path(sys.argv[0]).with_name("kept.txt").write_text(json.dumps(work["rows"]))
    print(json.dumps(_found(work)), flush=True)
    return 0


def _found(work: dict[str, Any]) -> dict[str, Any]:
    held_out = work["held_out"].items()

    def losses(mean: float, ahead: float) -> dict[str, list[float]]:
        return {name: [mean + place % 3 - ahead * AHEAD[name] for place in places] for name, places in held_out}

    probes = [
        {**probe, "losses": losses(3.0 + probe["seed"] / 10, float(probe["side"] == "suspect"))}
        for probe in work["probes"]
    ]
    tokens = [len(row["answer"].split()) for row in work["rows"]]
    return {
        "teacher": losses(1.0, 0.0), "untrained": losses(9.0, 0.0), "probes": probes, "layers_kept": [0, 28, 29],
        "parameters": 39_000_000, "answer_tokens": tokens,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
