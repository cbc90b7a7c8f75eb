"""The gateway before real vLLM on this machine: throughput in pairs with and without it, and its CPU beside vLLM's.

Every stream has the same prompt and generates as many tokens, so that vLLM does as little for a token as it ever does
and the gateway's share is at its highest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.rig.accounting import cpu_seconds
from benchmarks.rig.measuring import send
from benchmarks.rig.ours import spiritsafe
from benchmarks.rig.pairing import ratio
from benchmarks.rig.servers import ROOT, Contestant, await_answer, free_port, started
from benchmarks.rig.texts import MODEL
from gateway.fleet.supervisor import VllmServer
from gateway.settings import VllmSettings

PAIRS = 5
STREAMS, WAVES, TOKENS = 64, 2, 64
CONTEXT_LENGTH = 2048
READY_S = 240.0
IDLE_S = 10.0
SHARE_WANTED = 0.02  # of vLLM's CPU for a token
PYTHON, WEIGHTS = Path(".venv-vllm/bin/python"), Path("models/teacher")


@dataclass
class Runs:
    """One way's runs: tokens a second, and the CPU microseconds of a token, vLLM's and the gateway's."""

    tokens_per_s: list[float] = field(default_factory=list)
    vllm_us: list[float] = field(default_factory=list)
    gateway_us: list[float] = field(default_factory=list)


def measure(folder: Path, pairs: int) -> dict[str, Any]:
    """Stream through the gateway and without it, in turns; print a table and return the figures."""
    if not (ROOT / PYTHON).is_file() or not (ROOT / WEIGHTS).is_dir():
        raise click.ClickException("vLLM's environment or the model is missing: run `make setup-vllm setup-models`")
    with vllm(folder) as direct, spiritsafe(folder, direct.url) as ours:
        await_answer(ours, patience_s=60.0)
        ways = {"direct": (direct, Runs()), "spiritsafe": (ours, Runs())}
        for way, _ in ways.values():
            send(way, _arguments(1))
        idle = _idle_cores(ours)
        for number in range(pairs):
            for way, runs in list(ways.values())[:: 1 if number % 2 == 0 else -1]:
                _run(way, direct, runs)
    return _figures(ways["direct"][1], ways["spiritsafe"][1], idle)


@contextmanager
def vllm(folder: Path) -> Iterator[Contestant]:
    """Serve the demo's teacher as the house would, with room for all streams at once."""
    room = ("--max-num-seqs", str(STREAMS))
    server = VllmServer(MODEL, WEIGHTS, free_port(), CONTEXT_LENGTH, VllmSettings(str(PYTHON)), ROOT, room)
    with started(list(server.command()), folder / "vllm.log", server.environment()) as process:
        deadline = time.monotonic() + READY_S
        while not server.is_healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM did not start: {server.explain(0, (folder / 'vllm.log').read_text())}")
            time.sleep(0.5)
        server.warm_up()
        yield Contestant("direct", server.url, "nothing in between", process)


def _arguments(waves: int) -> list[str]:
    amount = ["--connections", str(STREAMS), "--requests", str(STREAMS * waves), "--tokens", str(TOKENS)]
    return ["--stream", "--seconds", "3600", *amount]


def _run(way: Contestant, direct: Contestant, runs: Runs) -> None:
    before = cpu_seconds(direct.pids)
    result = send(way, _arguments(WAVES))
    spent = cpu_seconds(direct.pids) - before
    tokens = result["answers"] * TOKENS
    if result["errors"]:
        raise RuntimeError(f"{way.name}: {result['errors']} errors, such as {result['first_error']}")
    runs.tokens_per_s.append(round(tokens / result["wall_s"], 1))
    runs.vllm_us.append(round(spent / tokens * 1e6, 1))
    runs.gateway_us.append(0.0 if way is direct else round(result["cpu_s"] / tokens * 1e6, 1))


def _idle_cores(ours: Contestant) -> float:
    """Return what the gateway takes when nobody asks: it looks at vLLM's metrics every second."""
    before = cpu_seconds(ours.pids)
    time.sleep(IDLE_S)
    return (cpu_seconds(ours.pids) - before) / IDLE_S


def _figures(direct: Runs, ours: Runs, idle: float) -> dict[str, Any]:
    throughput = ratio(ours.tokens_per_s, direct.tokens_per_s)
    share = sum(ours.gateway_us) / sum(ours.vllm_us)
    idle_us = sum(idle * 1e6 / speed for speed in ours.tokens_per_s)  # a slow machine's token bears more of it
    streaming_share = max(0.0, sum(ours.gateway_us) - idle_us) / sum(ours.vllm_us)
    print(f"\n{f'vLLM, {STREAMS} streams':24} {'tokens/s':>30} {'vLLM µs/token':>30} {'gateway µs/token':>30}")
    for name, runs in (("direct", direct), ("spiritsafe", ours)):
        print(f"{name:24} {runs.tokens_per_s!s:>30} {runs.vllm_us!s:>30} {runs.gateway_us!s:>30}")
    print(
        f"throughput through the gateway ÷ direct: {throughput.median:.3f}, 95 % interval {throughput.low:.3f}–"
        f"{throughput.high:.3f}: 1 is {'within' if throughput.is_one_within_noise else 'outside'} the noise"
    )
    print(f"the gateway's CPU ÷ vLLM's, of a token: {share:.2%} (at most {SHARE_WANTED:.0%} wanted)", end="")
    print(f", {streaming_share:.2%} without the {idle:.1%} of a core that it takes when nobody asks")
    return {
        "streams": STREAMS,
        "tokens_per_stream": TOKENS,
        "direct": asdict(direct),
        "spiritsafe": asdict(ours),
        "ratios": [round(our / their, 4) for our, their in zip(ours.tokens_per_s, direct.tokens_per_s, strict=True)],
        "ratio": asdict(throughput) | {"one_within_noise": throughput.is_one_within_noise},
        "cpu_share": round(share, 5),
        "cpu_share_without_idle": round(streaming_share, 5),
        "idle_cores": round(idle, 4),
        "cpu_share_wanted": SHARE_WANTED,
    }
