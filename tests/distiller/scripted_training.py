"""Plays the training child: reads the spec, prints steps, writes a folder. The spec's seed chooses its part."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

GOOD, FAILS, HANGS = 1, 2, 3


def main() -> int:
    """Play one training."""
    spec: dict[str, Any] = json.loads(Path(sys.argv[sys.argv.index("--spec") + 1]).read_text())
    output = Path(spec["output"])
    building = output.with_name(f".{output.name}.building")
    building.mkdir(parents=True)
    print("a library's own word", flush=True)
    for step in (1, 2, 3):
        print(json.dumps({"step": step, "steps": 3, "loss": 3.0 / step, "eta_s": 3.0 - step}), flush=True)
    if spec["seed"] == FAILS:
        print("Memory ran out. Halve `batch_size` and train again.", file=sys.stderr)
        return 1
    if spec["seed"] == HANGS:
        time.sleep(60)
    (building / "model.safetensors").write_bytes(b"weights")
    curve = [{"step": step, "loss": 3.0 / step} for step in (1, 2, 3)] if spec["train"] else []
    record = {"settings": spec, "parameters": 70_000_000, "examples": 9, "seconds": 0.1, "curve": curve}
    (building / "training.json").write_text(json.dumps(record | {"weights_sha256": "ab" * 32}))
    building.rename(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
