"""`make bench-overhead`: what a request costs in CPU before the same upstream, ours with everything on, and the peers.

Not streamed: 1 KB in, 1 KB out, closed loop at 16 and 64 connections. Streamed: 103 chunks as fast as they are taken,
50 at a time. Contestants take turns in every repeat; a figure is the median over the repeats. `--soak` sends a million
requests with unique prompts and looks at memory.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.rig.accounting import cpu_seconds, resident_mb, rig
from benchmarks.rig.contestants import Contestant, await_answer, everybody, spiritsafe, upstream
from benchmarks.rig.texts import CHUNKS

CASES = {"16 connections": ["--connections", "16"], "64 connections": ["--connections", "64"]}
STREAMS = {"50 streams": ["--connections", "50", "--stream"]}


@dataclass
class Figures:
    """One contestant in one case, over the repeats."""

    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    errors: int = 0


def load(contestant: Contestant, seconds: float, arguments: list[str]) -> dict[str, Any]:
    """Run the load generator and return what it says."""
    command = [sys.executable, "-m", "benchmarks.rig.load", *contestant.load_arguments, "--seconds", str(seconds)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(contestant: Contestant, seconds: float, arguments: list[str], figures: Figures) -> None:
    """Take one run into the figures."""
    before = cpu_seconds(contestant.pids)
    result = load(contestant, seconds, arguments)
    spent = cpu_seconds(contestant.pids) - before
    if result["errors"]:
        print(f"{contestant.name}: {result['errors']} errors, such as {result['first_error']}", file=sys.stderr)
    figures.errors += result["errors"]
    if result["answers"]:
        figures.cpu_us.append(spent / result["answers"] * 1e6)
        figures.p50_ms.append(result["p50_ms"])
        figures.p99_ms.append(result["p99_ms"])
        figures.per_second.append(result["answers"] / result["wall_s"])


def compare(running: list[Contestant], cases: dict[str, list[str]], seconds: float, repeats: int) -> dict[str, Any]:
    """Measure everybody in turn, print a table, and return the medians."""
    found: dict[str, Any] = {}
    for case, arguments in cases.items():
        figures = {contestant.name: Figures() for contestant in running}
        for _ in range(repeats):
            for contestant in running:
                measure(contestant, seconds, arguments, figures[contestant.name])
        found[case] = {name: _summary(one) for name, one in figures.items()}
        _print_table(case, found[case])
    return found


def _summary(figures: Figures) -> dict[str, Any]:
    def middle(values: list[float]) -> float | None:
        return round(statistics.median(values), 3) if values else None

    return {
        "cpu_us": middle(figures.cpu_us),
        "cpu_us_runs": [round(value, 1) for value in figures.cpu_us],
        "p50_ms": middle(figures.p50_ms),
        "p99_ms": middle(figures.p99_ms),
        "per_second": middle(figures.per_second),
        "errors": figures.errors,
    }


def _print_table(case: str, rows: dict[str, dict[str, Any]]) -> None:
    router = (rows.get("vllm-router") or {}).get("cpu_us")
    print(f"\n{case:28} {'CPU µs':>9} {'÷ router':>9} {'p50 ms':>9} {'p99 ms':>9} {'per s':>9} {'errors':>7}")
    for name, row in rows.items():
        ratio = f"{row['cpu_us'] / router:9.2f}" if router and row["cpu_us"] is not None else f"{'':9}"
        cpu = "" if row["cpu_us"] is None else f"{row['cpu_us']:.0f}"
        times = f"{row['p50_ms']!s:>9} {row['p99_ms']!s:>9} {row['per_second']!s:>9}"
        print(f"{name:28} {cpu:>9} {ratio} {times} {row['errors']:>7}")
    sys.stdout.flush()


def soak(folder: Path, upstream_url: str, requests: int) -> dict[str, Any]:
    """Send many requests with unique prompts; return resident memory by how many were sent."""
    memory: dict[str, float] = {}
    with spiritsafe(folder, upstream_url, workers=1) as ours:
        await_answer(ours)
        sent = 0
        for share in range(1, 11):
            most = requests * share // 10
            result = load(ours, 3600, ["--connections", "32", "--unique", "--requests", str(most - sent)])
            sent = most
            memory[str(sent)] = round(resident_mb(ours.pids), 1)
            print(f"{sent} requests: {memory[str(sent)]} MB resident, {result['errors']} errors", file=sys.stderr)
    return memory


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="How long each run takes.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--only", default="", help="Names of peers, comma-separated; default: all.")
@click.option("--soak", "soak_requests", default=0, help="Also send that many requests with unique prompts.")
def main(seconds: float, repeats: int, only: str, soak_requests: int) -> None:
    """Compare CPU per request and per stream."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with upstream(folder) as url, everybody(folder, url, only.split(",") if only else None) as running:
            for contestant in running:
                print(f"{contestant.name}: {contestant.features}")
            whole = compare(running, CASES, seconds, repeats)
            streams = compare(running, STREAMS, seconds, repeats)
            resident = {one.name: round(resident_mb(one.pids), 1) for one in running if one.process is not None}
            document = {
                "benchmark": "overhead",
                "rig": rig(),
                "features": {one.name: one.features for one in running},
                "whole": whole,
                "streams": streams,
                "chunks_per_stream": len(CHUNKS),
                "resident_mb": resident,
            }
            if soak_requests:
                document["soak_resident_mb"] = soak(folder, url, soak_requests)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
