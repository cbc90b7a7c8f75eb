"""One run of the load generator against one contestant, with what it cost the contestant."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.rig.accounting import cpu_seconds, resident_mb
from benchmarks.rig.servers import Contestant

LOOK_S = 0.25


def send(contestant: Contestant, arguments: list[str]) -> dict[str, Any]:
    """Run the load generator and return what it says, with the contestant's `cpu_s` and most `resident_mb`."""
    command = [sys.executable, "-m", "benchmarks.rig.load", *contestant.load_arguments, *arguments]
    pids = contestant.pids
    before, resident = cpu_seconds(pids), resident_mb(pids)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            resident = max(resident, resident_mb(pids))
            time.sleep(LOOK_S)
        output, complaint = process.communicate()
    spent = cpu_seconds(pids) - before
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}: {complaint[-1000:]}")
    result: dict[str, Any] = json.loads(output)
    if result["errors"]:
        print(f"{contestant.name}: {result['errors']} errors, such as {result['first_error']}", file=sys.stderr)
    return result | {"cpu_s": round(spent, 3), "resident_mb": round(resident, 1)}


def await_idle(contestant: Contestant, patience_s: float = 60.0) -> None:
    """Wait until it takes less than a tenth of a core, so that it doesn't work on what another one is timed with."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = cpu_seconds(contestant.pids)
        time.sleep(0.5)
        if cpu_seconds(contestant.pids) - before < 0.05:
            return
