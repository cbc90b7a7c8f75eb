"""`make bench-streaming`: what a gateway adds to streams that come at a model's pace; a quarter of an hour.

A scripted upstream takes 200 ms to the first token and 40 ms to each further one. First, streams arrive in an open loop
so that about 500 are under way, then half as many: the time to the first token, as the difference to nginx in the same
round. Then one worker holds 1,000 streams. With `--real` (REAL=1) it's vLLM instead: tokens a second through the
gateway and without it, in turns, and the gateway's CPU beside vLLM's; about ten minutes.

Contestants take turns in every round, every second round backwards. Prints tables; the last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.rig import real
from benchmarks.rig.accounting import resident_mb, rig
from benchmarks.rig.contestants import everybody
from benchmarks.rig.measuring import await_idle, send
from benchmarks.rig.ours import Spiritsafe
from benchmarks.rig.pairing import differences
from benchmarks.rig.servers import Contestant, upstream
from benchmarks.rig.texts import CHUNKS, WORDS

BASELINE = "nginx"
PROBES = 60  # streams that show what a contestant's streams cost
# A peer that needs more cores is left out: of the open loop, because it would be timed with its queue, of the streams
# held, because they'd take minutes. Ours is always shown.
MOST_CORES = 0.9
MOST_CORES_HELD = 4.0
ADDED_WANTED = {"p50_ms": 1.0, "p99_ms": 5.0}  # at half load, over nginx


@dataclass(frozen=True)
class Plan:
    """How much is streamed, and at which pace."""

    streams: int = 500
    held: int = 1000
    pairs: int = 3
    seconds: float = 15.0  # of each run, besides its beginning and end
    first_ms: float = 200.0
    gap_ms: float = 40.0

    @property
    def stream_s(self) -> float:
        """How long a stream lasts."""
        return (self.first_ms + self.gap_ms * (len(CHUNKS) - 1)) / 1000

    def rate(self, streams: int) -> float:
        """Return how many streams a second must arrive for so many to be under way."""
        return streams / self.stream_s


@click.command()
@click.option(
    "--streams",
    default=Plan.streams,
    type=click.IntRange(min=2),
    show_default=True,
    help="Under way at once in the open loop.",
)
@click.option(
    "--held", default=Plan.held, type=click.IntRange(min=1), show_default=True, help="Streams that one worker holds."
)
@click.option("--pairs", default=None, type=int, help="Rounds; default: 3, before real vLLM 5.")
@click.option("--seconds", default=Plan.seconds, show_default=True, help="How long each run is timed.")
@click.option("--only", default="", help="Names of peers, comma-separated; default: all.")
@click.option("--real", "before_vllm", is_flag=True, help="Before real vLLM instead of the scripted upstream.")
def main(streams: int, held: int, pairs: int | None, seconds: float, only: str, before_vllm: bool) -> None:
    """Compare what streams cost and how much later they begin."""
    document: dict[str, Any] = {"benchmark": "streaming", "rig": rig()}
    with tempfile.TemporaryDirectory() as folder:
        if before_vllm:
            document["real"] = real.measure(Path(folder), pairs or real.PAIRS)
        else:
            plan = Plan(streams, held, pairs or Plan.pairs, seconds)
            document |= scripted(Path(folder), plan, only.split(",") if only else None)
    print(json.dumps(document))


def scripted(folder: Path, plan: Plan, names: list[str] | None) -> dict[str, Any]:
    """Measure everybody whose streams work, and who can keep up, before the scripted upstream."""
    with (
        upstream(folder, first_ms=plan.first_ms, gap_ms=plan.gap_ms) as url,
        everybody(folder, url, names) as running,
    ):
        for contestant in running:
            print(f"{contestant.name}: {contestant.features}")
        costs = {contestant.name: probe(contestant) for contestant in running}
        loads = {}
        for streams in (plan.streams, plan.streams // 2):
            able, left_out = who_can(running, costs, plan.rate(streams), MOST_CORES)
            loads[str(streams)] = first_tokens(able, plan, streams) | {"left_out": left_out}
        able, left_out = who_can(running, costs, plan.rate(plan.held), MOST_CORES_HELD)
        holding = hold(able, plan) | {"left_out": left_out}
    half = loads[str(plan.streams // 2)]["contestants"]["spiritsafe"].get("added", {})
    for figure, wanted in ADDED_WANTED.items():
        if figure in half:
            print(f"half load: {half[figure]['median']} ms over {BASELINE} at {figure[:3]} (at most {wanted:g} wanted)")
    return {"plan": asdict(plan), "first_token": loads, "added_wanted": ADDED_WANTED, "held": holding}


def probe(contestant: Contestant) -> float | str:
    """Return the CPU seconds of one of its streams, or in words why its streams don't work."""
    arguments = ["--stream", "--connections", str(PROBES), "--requests", str(PROBES), "--seconds", "60"]
    send(contestant, arguments)  # its first streams are slower
    result = send(contestant, arguments)
    if result["errors"]:
        return f"its streams fail: {result['first_error']}"
    if result["fewest_chunks"] < WORDS:
        return f"its streams lose chunks: {result['fewest_chunks']} of {WORDS} came"
    cost: float = result["cpu_s"] / result["answers"]
    return cost


def who_can(
    running: Iterable[Contestant], costs: dict[str, float | str], rate: float, most_cores: float
) -> tuple[list[Contestant], dict[str, str]]:
    """Return those who can stream at that rate, and why the others can't."""
    able, left_out = [], {}
    for contestant in running:
        cost = costs[contestant.name]
        if isinstance(cost, str):
            left_out[contestant.name] = cost
        elif cost * rate > most_cores and not isinstance(contestant, Spiritsafe):
            left_out[contestant.name] = (
                f"{cost * 1000:.1f} ms of CPU a stream: {rate:.0f} streams a second would need {cost * rate:.1f} cores"
            )
        else:
            able.append(contestant)
    for name, reason in left_out.items():
        print(f"{name} is left out at {rate:.0f} streams a second: {reason}")
    return able, left_out


def first_tokens(running: list[Contestant], plan: Plan, streams: int) -> dict[str, Any]:
    """Let streams arrive, round by round, print a table, and return the figures."""
    settle = 1.2 * plan.stream_s
    open_loop = ["--stream", "--rate", str(plan.rate(streams)), "--seconds", str(settle + plan.seconds)]
    runs: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in running}
    for number in range(plan.pairs):
        for contestant in running if number % 2 == 0 else reversed(running):
            runs[contestant.name].append(send(contestant, [*open_loop, "--settle", str(settle), "--drain", "30"]))
            await_idle(contestant)
    rows = {name: summary(results, runs.get(BASELINE)) for name, results in runs.items()}
    print_first_tokens(f"about {streams} streams", rows)
    return {"streams_per_s": round(plan.rate(streams), 1), "contestants": rows}


def summary(results: list[dict[str, Any]], baseline: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Return one contestant's figures over all rounds, with what it adds to the baseline in each round."""
    row: dict[str, Any] = {
        "p50_ms": [result["p50_ms"] for result in results],
        "p99_ms": [result["p99_ms"] for result in results],
        "timed": [result["timed"] for result in results],
        "most_under_way": [result["most_under_way"] for result in results],
        "cpu_us_per_chunk": middle(per_chunk(result) for result in results),
        "client_cpu_share": middle(result["client_cpu_s"] / result["wall_s"] for result in results),
        "errors": sum(result["errors"] for result in results),
        "fewest_chunks": min(result["fewest_chunks"] for result in results),
    }
    if baseline is not None:
        row["added"] = {}
        for figure in ADDED_WANTED:
            added = differences(row[figure], [result[figure] for result in baseline])
            row["added"][figure] = {"pairs": added, "median": middle(added)}
    return row


def hold(running: list[Contestant], plan: Plan) -> dict[str, Any]:
    """Keep so many streams under way that each connection's next one begins when its last one ends."""
    ramp = plan.stream_s  # all at once would keep them in step
    arguments = ["--stream", "--connections", str(plan.held), "--ramp", str(ramp)]
    rows = {}
    for contestant in running:
        before = resident_mb(contestant.pids)
        result = send(contestant, [*arguments, "--seconds", str(ramp + plan.seconds)])
        await_idle(contestant)
        rows[contestant.name] = {
            "streams": result["answers"],
            "errors": result["errors"],
            "first_error": result["first_error"],
            "most_under_way": result["most_under_way"],
            "connections": result["connections"],
            "complete": not result["errors"] and result["fewest_chunks"] == WORDS,
            "chunks_per_s": round(result["chunks"] / result["wall_s"]),
            "cpu_us_per_chunk": middle([per_chunk(result)]),
            "resident_mb": {"before": round(before, 1), "most": result["resident_mb"]},
        }
    print_held(plan.held, rows)
    return {"contestants": rows}


def per_chunk(result: dict[str, Any]) -> float:
    """Return the CPU microseconds of a chunk."""
    return float(result["cpu_s"] / result["chunks"] * 1e6) if result["chunks"] else 0.0


def middle(values: Iterable[float]) -> float | None:
    """Return the median, or None of nothing."""
    known = list(values)
    return round(statistics.median(known), 3) if known else None


def print_first_tokens(case: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the table of one load; `+p50` and `+p99` are over nginx, the medians of the pairs."""
    print(
        f"\n{case:24} {'p50 ms':>8} {'p99 ms':>8} {'+p50':>7} {'+p99':>7} {'at once':>8} {'µs/chunk':>9} {'errors':>7}"
    )
    for name, row in rows.items():
        times = [middle(value for value in row[figure] if value is not None) for figure in ADDED_WANTED]
        added = [row.get("added", {}).get(figure, {}).get("median") for figure in ADDED_WANTED]
        cells = " ".join(f"{shown(value):>8}" for value in times) + " "
        cells += " ".join(f"{shown(value):>7}" for value in added)
        print(
            f"{name:24} {cells} {max(row['most_under_way']):>8} {shown(row['cpu_us_per_chunk']):>9} {row['errors']:>7}"
        )
    for name, row in rows.items():
        if name != BASELINE and "added" in row:
            pairs = "; ".join(f"{figure[:3]} {row['added'][figure]['pairs']}" for figure in ADDED_WANTED)
            print(f"  {name} minus {BASELINE}, ms by round: {pairs}")
    sys.stdout.flush()


def print_held(streams: int, rows: dict[str, dict[str, Any]]) -> None:
    """Print the table of streams held."""
    print(f"\n{f'{streams} streams held':24} {'streams':>8} {'at once':>8} {'errors':>7} {'complete':>9} ", end="")
    print(f"{'chunks/s':>9} {'µs/chunk':>9} {'MB before':>10} {'MB most':>8}")
    for name, row in rows.items():
        counts = f"{row['streams']:>8} {row['most_under_way']:>8} {row['errors']:>7} {row['complete']!s:>9}"
        memory = f"{row['resident_mb']['before']:>10} {row['resident_mb']['most']:>8}"
        print(f"{name:24} {counts} {row['chunks_per_s']:>9} {shown(row['cpu_us_per_chunk']):>9} {memory}")
    sys.stdout.flush()


def shown(value: float | None) -> str:
    """Return a figure for the table."""
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
