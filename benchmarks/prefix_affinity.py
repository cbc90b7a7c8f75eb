"""What prefix affinity is worth with two real vLLM servers: `make bench-prefix-affinity`; a quarter of an hour.

Several applications share long system prompts and ask short questions in random order. The same gateway serves each
round three ways, in turns, so that noise meets all alike: by affinity, to the less busy of two, and round robin (the
client alternates between two models that have one server each). Every round of every way has prompts of its own, so
that nothing is found that another has left. Each server's cache holds two thirds of the prompts; affinity needs half.

Hits and queries are tokens, of vLLM's own counters; the time to first token is the client's. Prints a table; the last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from gateway.fleet.supervisor import VllmServer, free_port
from gateway.ledger import accounts, keys
from gateway.ledger.database import open_database
from gateway.settings import VllmSettings

MODEL = Path("models/teacher")
PYTHON = Path(".venv-vllm/bin/python")
WAYS = ("affinity", "least_busy", "round_robin")
# The names under which vLLM serves the one model, each a model of the gateway.
NAMES = ("affinity", "least_busy", "first", "second")
CONTEXT_LENGTH, BLOCK = 2048, 32
WORDS = ("harbour", "lantern", "copper", "meadow", "ledger", "orchard", "violet", "thunder", "basket", "marble")
ANSWER_TOKENS = 8
READY_WITHIN_S = 240.0


@dataclass(frozen=True)
class Plan:
    """How much is asked: so many prompts of so many words, each so many times, by so many clients at once."""

    prompts: int = 12
    words: int = 700
    asks: int = 6
    clients: int = 4
    rounds: int = 3

    @property
    def blocks(self) -> int:
        """The size of a server's cache: two thirds of all prompts, a word being about 1.5 tokens."""
        return int(self.prompts * self.words * 1.5 * 2 / 3) // BLOCK


@dataclass(frozen=True)
class Counters:
    """A server's prefix cache, in tokens since its start."""

    queries: float = 0.0
    hits: float = 0.0

    def __sub__(self, other: Counters) -> Counters:
        """Return what came since."""
        return Counters(self.queries - other.queries, self.hits - other.hits)


@dataclass
class Result:
    """What one way gave over all rounds."""

    first_token_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cache: list[Counters] = field(default_factory=list)  # one a server and round

    def summary(self) -> dict[str, float]:
        """Return the figures of the table."""
        queries, hits = sum(part.queries for part in self.cache), sum(part.hits for part in self.cache)
        cuts = statistics.quantiles(self.first_token_s, n=20)
        return {
            "requests": len(self.first_token_s),
            "hit_rate": round(hits / queries, 3) if queries else 0.0,
            "prefilled_tokens": round(queries - hits),
            "first_token_p50_ms": round(cuts[9] * 1000, 1),
            "first_token_p95_ms": round(cuts[18] * 1000, 1),
            "requests_per_s": round(len(self.first_token_s) / self.seconds, 2),
        }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 where vLLM or the model is missing, or affinity did not hit more than round robin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix_affinity", description=__doc__)
    for name, value in vars(Plan()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = vars(parser.parse_args(arguments))
    model = options.pop("model")
    if not PYTHON.is_file() or not model.is_dir():
        print("vLLM's environment or the model is missing: run `make setup-all` first.", file=sys.stderr)
        return 1
    plan = Plan(**options)
    with (
        tempfile.TemporaryDirectory() as folder,
        servers(model, plan, Path(folder)) as urls,
        gateway(Path(folder), urls) as (url, key),
    ):
        results = asyncio.run(measure(plan, urls, url, key))
    table = {way: result.summary() for way, result in results.items()}
    for way, row in table.items():
        print(f"{way:12}", "  ".join(f"{name} {value}" for name, value in row.items()))
    print(json.dumps({"plan": vars(plan), "ways": table}))
    return 0 if table["affinity"]["hit_rate"] > table["round_robin"]["hit_rate"] else 1


async def measure(plan: Plan, servers: Sequence[str], gateway: str, key: str) -> dict[str, Result]:
    """Ask round by round, each way in turn."""
    results = {way: Result() for way in WAYS}
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=gateway, headers=headers, timeout=300) as client:
        for number in range(plan.rounds):
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                asked = workload(plan, f"{way} {number}")
                before = [await counters(client, server) for server in servers]
                began = time.perf_counter()
                results[way].first_token_s += await ask_all(client, way, asked, plan.clients)
                results[way].seconds += time.perf_counter() - began
                after = [await counters(client, server) for server in servers]
                results[way].cache += [late - early for late, early in zip(after, before, strict=True)]
    return results


def workload(plan: Plan, seed: str) -> list[list[dict[str, str]]]:
    """Return requests: every prompt as often as the plan says, in random order, each with a question of its own."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=plan.words)) for _ in range(plan.prompts)]
    prompts = [f"Application {seed} {number}. {text}" for number, text in enumerate(texts)]
    asked = [
        [{"role": "system", "content": prompt}, {"role": "user", "content": f"Question {number}: which word is next?"}]
        for prompt, number in itertools.product(prompts, range(plan.asks))
    ]
    chance.shuffle(asked)
    return asked


async def ask_all(
    client: httpx.AsyncClient, way: str, asked: Sequence[list[dict[str, str]]], clients: int
) -> list[float]:
    """Ask everything with so many clients, each beginning its next when its last is answered; first-token times."""
    waiting = iter(enumerate(asked))
    times: list[float] = []

    async def one_client() -> None:
        for number, messages in waiting:
            model = NAMES[2 + number % 2] if way == "round_robin" else way
            times.append(await first_token_s(client, model, messages))

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return times


async def first_token_s(client: httpx.AsyncClient, model: str, messages: list[dict[str, str]]) -> float:
    """Return seconds until the first content of a stream, having read all of it."""
    body = {"model": model, "messages": messages, "stream": True, "max_tokens": ANSWER_TOKENS, "temperature": 0}
    began, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if first is None and has_content(line):
                first = time.perf_counter() - began
    if first is None:
        raise RuntimeError(f"{model} sent a stream without content")
    return first


def has_content(line: str) -> bool:
    """Does a line of a stream carry text?"""
    if not line.startswith("data: {"):
        return False
    chunk = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise RuntimeError(f"the stream failed: {chunk['error']}")
    return any(choice.get("delta", {}).get("content") for choice in chunk["choices"])


async def counters(client: httpx.AsyncClient, server: str) -> Counters:
    """Read a server's counters."""
    return parse_counters((await client.get(f"{server}/metrics")).text)


def parse_counters(page: str) -> Counters:
    """Find the prefix cache's counters on a page of vLLM's metrics."""
    return Counters(_total(page, "vllm:prefix_cache_queries_total"), _total(page, "vllm:prefix_cache_hits_total"))


def _total(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


@contextlib.contextmanager
def servers(model: Path, plan: Plan, folder: Path) -> Iterator[list[str]]:
    """Serve the model twice with vLLM, each with a cache of the plan's size; their URLs."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(_serving(vllm_server(model, plan), folder / f"vllm-{n}.log")) for n in range(2)]
        for server, process in started:
            _await_ready(server, process)
            server.warm_up()
        yield [server.url for server, _ in started]


def vllm_server(model: Path, plan: Plan) -> VllmServer:
    """Return a server as the house would start it, but for the names and the size of its cache."""
    extra = ("--served-model-name", *NAMES, "--num-gpu-blocks-override", str(plan.blocks))
    # One GiB holds the blocks of the demo's models; the override makes fewer of it.
    return VllmServer(NAMES[0], model, free_port(), CONTEXT_LENGTH, VllmSettings(str(PYTHON)), Path.cwd(), extra)


@contextlib.contextmanager
def _serving(server: VllmServer, log: Path) -> Iterator[tuple[VllmServer, subprocess.Popen[bytes]]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(), env=os.environ | server.environment(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield server, process
    finally:
        process.terminate()
        process.wait(timeout=60)


def _await_ready(server: VllmServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not server.is_healthy():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"vLLM did not start: run it by hand to see why: {' '.join(server.command())}")
        time.sleep(0.5)


@contextlib.contextmanager
def gateway(folder: Path, urls: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Run the gateway in front of the servers; its URL and a key."""
    file = folder / "spiritsafe.toml"
    file.write_text(settings_text(urls))
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--port", "0", "--workers", "1", "--json"]
    process = subprocess.Popen([*command, "--config", str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        key = _make_key(folder / "data")
        _await_models(url, key)
        yield url, key
    finally:
        process.terminate()
        process.wait(timeout=60)


def settings_text(urls: Sequence[str]) -> str:
    """Return a settings file with one model per way; round robin is two models with one server each."""
    backends = {"affinity": urls, "least_busy": urls, "first": urls[:1], "second": urls[1:]}
    models = [
        f'[[models]]\nname = "{name}"\nbackends = {json.dumps(list(backends[name]))}\n'
        f'balance = "{"least_busy" if name == "least_busy" else "affinity"}"\ncontext_length = {CONTEXT_LENGTH}\n'
        for name in NAMES
    ]
    return 'data_dir = "data"\n' + "".join(models)


def _make_key(data_dir: Path) -> str:
    database = open_database(f"sqlite:///{data_dir / 'control.sqlite'}")
    with database.write() as connection:
        accounts.create(connection, accounts.new("bench"), "bench")
        _, key = keys.create(connection, keys.ensure_secret(connection, data_dir), "bench", "bench")
    database.close()
    return key


def _await_models(url: str, key: str) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError("the gateway was not ready within a minute")


if __name__ == "__main__":
    sys.exit(main())
