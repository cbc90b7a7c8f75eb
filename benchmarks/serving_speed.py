"""Tokens per second of two models in vLLM on this machine, measured in turns so that noise meets both alike."""

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

PYTHON = Path(".venv-vllm/bin/python")
PROMPT = "Tell me about the harbour of a small town, and number {} of the boats that lie in it."
ROUNDS, TOKENS = 5, 48
READY_WITHIN = 240.0  # seconds


def compare(teacher: Path, student: Path) -> dict[str, Any] | None:
    """Serve both, alternate between them, and return medians of tokens/s and of their ratio at 1 and 8 streams.

    None where vLLM's environment is missing.
    """
    if not PYTHON.is_file():
        print("no .venv-vllm (`make setup-vllm`): speed is not measured", file=sys.stderr)
        return None
    with served(teacher) as first, served(student) as second:
        for url in (first, second):
            asyncio.run(tokens_per_second(url, 8))  # the first requests after a start are slow
        rounds = {streams: asyncio.run(in_turns(first, second, streams)) for streams in (1, 8)}
    return {f"{streams}_streams": summary(pairs) for streams, pairs in rounds.items()}


async def in_turns(first: str, second: str, streams: int) -> list[tuple[float, float]]:
    """Tokens per second of both servers, one after the other, round by round."""
    return [(await tokens_per_second(first, streams), await tokens_per_second(second, streams)) for _ in range(ROUNDS)]


def summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over the rounds; the ratio is taken within each round."""
    return {
        "teacher_tokens_per_s": round(statistics.median(teacher for teacher, _ in pairs), 1),
        "student_tokens_per_s": round(statistics.median(student for _, student in pairs), 1),
        "ratio": round(statistics.median(student / teacher for teacher, student in pairs), 2),
        "lowest_ratio": round(min(student / teacher for teacher, student in pairs), 2),
    }


async def tokens_per_second(url: str, streams: int) -> float:
    """Tokens generated per second of wall-clock time by so many streams at once, prompts included."""
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        started = time.monotonic()
        used = await asyncio.gather(*(_generate(client, number) for number in range(streams)))
        return sum(used) / (time.monotonic() - started)


async def _generate(client: httpx.AsyncClient, number: int) -> int:
    body = {
        "model": "model", "messages": [{"role": "user", "content": PROMPT.format(number)}], "temperature": 0,
        "max_tokens": TOKENS, "ignore_eos": True,
    }  # fmt: skip
    response = await client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    return int(response.json()["usage"]["completion_tokens"])


@contextlib.contextmanager
def served(model: Path) -> Iterator[str]:
    """Serve a model folder with vLLM on a free loopback port, ended with the context; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        command(model, port), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await_ready(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def command(model: Path, port: int) -> list[str]:
    """The command line that serves a model on a CPU."""
    options = {
        "--model": str(model), "--served-model-name": "model", "--host": "127.0.0.1", "--port": str(port),
        "--dtype": "float32", "--max-model-len": "2048", "--distributed-executor-backend": "uni", "--block-size": "32",
    }  # fmt: skip
    flat = [word for pair in options.items() for word in pair]
    return [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", *flat, "--enforce-eager"]


def environment() -> dict[str, str]:
    """The environment that suits vLLM on two cores."""
    openmp = (PYTHON.parent.parent / "lib" / "libiomp5.so").resolve()
    return os.environ | {
        "LD_PRELOAD": str(openmp),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "1",
    }


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(
                f"vLLM ended with {process.returncode} while starting: run its command by hand to see why"
            )
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"vLLM was not ready within {READY_WITHIN:.0f} s")
