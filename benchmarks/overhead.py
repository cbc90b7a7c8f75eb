"""`make bench-overhead`: what a request costs in CPU before the same upstream, ours with everything on, and the peers.

Not streamed: 1 KB in, 1 KB out, closed loop at 16 and 64 connections. Streamed: 103 chunks as fast as they are taken,
50 at a time. Contestants take turns in every repeat; a figure is the median over the repeats. `--workers` compares two
workers with one and takes the ingester's share, on the gateway alone; `--soak 1000000` sends a million requests with
unique prompts and a thousand keys and looks at memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.rig.accounting import cpu_seconds, resident_mb, rig, tree
from benchmarks.rig.contestants import everybody
from benchmarks.rig.measuring import send
from benchmarks.rig.ours import Spiritsafe, await_ingested, ingester, spiritsafe
from benchmarks.rig.servers import Contestant, await_answer, upstream
from benchmarks.rig.texts import CHUNKS

CASES = {"16 connections": ["--connections", "16"], "64 connections": ["--connections", "64"]}
STREAMS = {"50 streams": ["--connections", "50", "--stream"]}
MOST_FOR_TWO_WORKERS = 1.1  # times the CPU of a request with one
SOAK_KEYS = 1000
MOST_DRIFT = 0.05  # of resident memory in a soak, from its first tenth on


@dataclass
class Figures:
    """One contestant in one case, over the repeats."""

    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    errors: int = 0


def measure(contestant: Contestant, seconds: float, arguments: list[str], figures: Figures) -> None:
    """Take one run into the figures."""
    result = send(contestant, ["--seconds", str(seconds), *arguments])
    figures.errors += result["errors"]
    if result["answers"]:
        figures.cpu_us.append(result["cpu_s"] / result["answers"] * 1e6)
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


def compare_workers(folder: Path, upstream_url: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Take the CPU of a request with one worker and with two, in turns, and then with the ingester beside one."""
    arguments = CASES["64 connections"]
    with spiritsafe(folder, upstream_url, workers=1) as one, spiritsafe(folder, upstream_url, workers=2) as two:
        for ours in (one, two):
            await_answer(ours)
            send(ours, ["--seconds", str(seconds), *arguments])
        found = compare([one, two], {"64 connections, workers": arguments}, seconds, repeats)["64 connections, workers"]
        ingesting = with_ingester(one, seconds, repeats)
    pairs = zip(found[two.name]["cpu_us_runs"], found[one.name]["cpu_us_runs"], strict=True)
    ratios = [round(double / single, 3) for double, single in pairs]
    print(f"two workers ÷ one: {statistics.median(ratios):.2f} {ratios} (at most {MOST_FOR_TWO_WORKERS} wanted)")
    print(f"with the ingester beside it: gateway {ingesting['gateway_cpu_us']} µs, ", end="")
    print(f"ingester {ingesting['ingester_cpu_us']} µs a request, {ingesting['ingester_resident_mb']} MB")
    return {"cases": found, "two_to_one": ratios, "two_to_one_wanted": MOST_FOR_TWO_WORKERS, "ingester": ingesting}


def with_ingester(ours: Spiritsafe, seconds: float, repeats: int) -> dict[str, Any]:
    """Let the ingester run beside the gateway, as it does in the house, until the lake has every record."""
    gateway, lake = [], []
    with ingester(ours) as process:
        await_ingested(ours)
        for _ in range(repeats):
            before = cpu_seconds(tree(process.pid))
            result = send(ours, ["--seconds", str(seconds), *CASES["64 connections"]])
            await_ingested(ours)
            gateway.append(result["cpu_s"] / result["answers"] * 1e6)
            lake.append((cpu_seconds(tree(process.pid)) - before) / result["answers"] * 1e6)
        resident = resident_mb(tree(process.pid))
    return {
        "gateway_cpu_us": round(statistics.median(gateway)),
        "ingester_cpu_us": round(statistics.median(lake)),
        "ingester_cpu_us_runs": [round(value) for value in lake],
        "ingester_resident_mb": round(resident, 1),
    }


def soak(folder: Path, upstream_url: str, requests: int) -> dict[str, Any]:
    """Send many requests, each with another prompt, and look at the worker's memory after every tenth of them.

    The ingester runs beside it, so that the spool is emptied. Drift is the most that memory differs from its value
    after the first tenth.
    """
    memory: dict[str, float] = {}
    errors = 0
    with spiritsafe(folder, upstream_url, key_count=SOAK_KEYS) as ours, ingester(ours):
        await_answer(ours)
        sent = 0
        for share in range(1, 11):
            most = requests * share // 10
            arguments = ["--seconds", "3600", "--connections", "32", "--requests", str(most - sent)]
            varied = ["--unique", "--first", str(sent), "--keys", str(ours.keys_file)]
            result = send(ours, [*arguments, *varied])
            sent = most
            errors += result["errors"]
            memory[str(sent)] = round(resident_mb(ours.worker_pids), 1)
            print(f"{sent} requests: {memory[str(sent)]} MB resident, {result['errors']} errors", file=sys.stderr)
    first, *later = memory.values()
    drift = max((abs(megabytes / first - 1) for megabytes in later), default=0.0)
    print(f"soak: {requests} requests, {SOAK_KEYS} keys, {errors} errors; resident memory drifts by {drift:.1%}")
    return {
        "resident_mb": memory,
        "drift": round(drift, 4),
        "drift_wanted": MOST_DRIFT,
        "keys": SOAK_KEYS,
        "errors": errors,
    }


@click.command()
@click.option("--seconds", default=4.0, show_default=True, help="How long each run takes.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--only", default="", help="Names of peers, comma-separated; default: all.")
@click.option("--workers", is_flag=True, help="Two workers beside one, and the ingester's share, instead of the peers.")
@click.option("--soak", "soak_requests", default=0, help="Send that many unique requests instead; a million is wanted.")
def main(seconds: float, repeats: int, only: str, workers: bool, soak_requests: int) -> None:
    """Compare CPU per request and per stream."""
    document: dict[str, Any] = {"benchmark": "overhead", "rig": rig()}
    with tempfile.TemporaryDirectory() as name, upstream(Path(name)) as url:
        folder = Path(name)
        if workers:
            document["workers"] = compare_workers(folder, url, seconds, repeats)
        if soak_requests:
            document["soak"] = soak(folder, url, soak_requests)
        if not workers and not soak_requests:
            document |= beside_peers(folder, url, seconds, repeats, only)
    print(json.dumps(document))


def beside_peers(folder: Path, url: str, seconds: float, repeats: int, only: str) -> dict[str, Any]:
    """Measure everybody, whole answers and streams."""
    with everybody(folder, url, only.split(",") if only else None) as running:
        for contestant in running:
            print(f"{contestant.name}: {contestant.features}")
        return {
            "features": {one.name: one.features for one in running},
            "whole": compare(running, CASES, seconds, repeats),
            "streams": compare(running, STREAMS, seconds, repeats),
            "chunks_per_stream": len(CHUNKS),
            "resident_mb": {one.name: round(resident_mb(one.pids), 1) for one in running if one.process is not None},
        }


if __name__ == "__main__":
    main()
