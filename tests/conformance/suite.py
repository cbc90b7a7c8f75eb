"""The suite: every SDK, endpoint and fault; a gateway process, a scripted upstream, one driver process per SDK."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.ledger import accounts, keys
from gateway.ledger.database import open_database
from gateway.ledger.frames import Kind
from gateway.ledger.spool import read_segment, segments
from gateway.settings import load_settings
from tests.conformance.faults import FAULTS, FIRST_TOKEN_S, PING_S, TOTAL_S, Call, Fault, Mode
from tests.endpoints import answer_any_endpoint
from tests.fakes import FakeVllm, Received, Script, fake_vllm

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
BENCH = ROOT / ".venv-bench" / "bin" / "python"


@dataclass(frozen=True)
class Sdk:
    """A stock SDK: the interpreter that has it, its package, and the endpoints that it knows."""

    name: str
    python: Path
    package: str
    endpoints: tuple[str, ...]


SDKS = (
    Sdk("openai", Path(sys.executable), "openai", ("chat.completions", "completions", "embeddings", "responses")),
    Sdk("openai-old", BENCH, "openai", ("chat.completions", "completions", "embeddings")),
    Sdk("anthropic", BENCH, "anthropic", ("messages",)),
)


@dataclass(frozen=True)
class Case:
    """One request: who asks, what, in which mode, and how the upstream fails."""

    sdk: Sdk
    endpoint: str
    mode: Mode
    fault: Fault

    @property
    def id(self) -> str:
        """A name for the request, and for the model whose backend plays the fault."""
        words = (self.sdk.name, self.endpoint, self.mode, self.fault.name)
        return ".".join(words).replace(" ", "-")


@dataclass(frozen=True)
class Outcome:
    """What came of a case: what the SDK's user got, and the records with the request's id."""

    case: Case
    text: str
    raised: dict[str, Any] | None
    seconds: float
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """All outcomes; by the SDK's name its release, and what it gave beside plain calls."""

    outcomes: tuple[Outcome, ...]
    versions: dict[str, str]
    conveniences: dict[str, dict[str, Any]]


def cases() -> list[Case]:
    """Return every case, those that wait longest first."""
    found = [
        Case(sdk, endpoint, mode, fault)
        for sdk in SDKS
        for endpoint in sdk.endpoints
        for fault in FAULTS
        for mode in fault.modes
        if mode == "whole" or endpoint != "embeddings"
    ]
    return sorted(found, key=lambda case: not case.fault.name.startswith(("stall", "slow")))


def run(folder: Path) -> Run:
    """Run every case, in `folder`."""
    asked = cases()
    with fake_vllm([case.id for case in asked]) as upstream:
        play_by_model(upstream, asked)
        with gateway_process(folder, upstream, asked) as (url, key):
            answered = drive(asked, url, key)
        records = records_of(folder / "data")
    outcomes = []
    for case in asked:
        got = answered[case.sdk.name][case.id]
        outcomes.append(Outcome(case, got["text"], got["raised"], got["seconds"], tuple(records.get(case.id, ()))))
    first = {name: results[""] for name, results in answered.items()}
    versions = {name: line["version"] for name, line in first.items()}
    return Run(tuple(outcomes), versions, {name: line["conveniences"] for name, line in first.items()})


def play_by_model(upstream: FakeVllm, asked: list[Case]) -> None:
    """Have the upstream play the fault of the case whose model is asked for."""
    known = {case.id: case for case in asked}

    def script(request: Received) -> Script:
        if request.path == "/v1/messages/count_tokens":
            return answer_any_endpoint(request)
        case = known[request.body["model"]]
        return case.fault.play(Call(case.endpoint, case.mode, case.id))

    upstream.always(script)


@contextmanager
def gateway_process(folder: Path, upstream: FakeVllm, asked: list[Case]) -> Iterator[tuple[str, str]]:
    """Run a worker of the gateway, one model and backend a case; yields its URL and a key."""
    config = folder / "spiritsafe.toml"
    with deaf_url() as deaf:
        backends = {case.id: deaf if case.fault.refused else upstream.another_url() for case in asked}
        port = free_port()  # last of all: a backend must not get it
        config.write_text(settings_text(port, backends))
        key = make_key(config)
        with started(folder, config, port) as url:
            yield url, key


@contextmanager
def started(folder: Path, config: Path, port: int) -> Iterator[str]:
    """Run a worker with these settings inside the block; yields its URL."""
    command = [sys.executable, "-m", "gateway.app", "--config", str(config)]
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            wait_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def settings_text(port: int, backends: dict[str, str]) -> str:
    """Return the settings: short deadlines, and a model for each backend."""
    head = f"""
data_dir = "data"
[gateway]
port = {port}
ping_interval_s = {PING_S}
first_token_timeout_s = {FIRST_TOKEN_S}
total_timeout_s = {TOTAL_S}
"""
    models = (
        f'[[models]]\nname = "{name}"\nbackends = ["{url}"]\ninput_price = 1.0\noutput_price = 3.0\n'
        for name, url in backends.items()
    )
    return head + "\n".join(models)


def make_key(config: Path) -> str:
    """Make an account with a key in the control plane of these settings."""
    settings = load_settings(config)
    database = open_database(settings.database_url)
    with database.write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
        _, text = keys.create(connection, keys.ensure_secret(connection, settings.data_dir), "acme", "test")
    database.close()
    return text


def drive(asked: list[Case], url: str, key: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Run each SDK's cases in one process of its own, side by side; returns results by SDK and case."""
    processes = {}
    for sdk in SDKS:
        command = [str(sdk.python), str(DRIVER), sdk.package, url, key, sdk.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lines = [
            {"id": case.id, "model": case.id, "endpoint": case.endpoint, "stream": case.mode == "stream"}
            for case in asked
            if case.sdk is sdk
        ]
        assert process.stdin is not None
        process.stdin.write("\n".join(map(json.dumps, lines)))
        process.stdin.close()
        processes[sdk.name] = process
    return {name: results_of(process) for name, process in processes.items()}


def results_of(process: subprocess.Popen[str]) -> dict[str, dict[str, Any]]:
    """Read a driver to its end; returns its results by case, and its first line under the empty name."""
    assert process.stdout is not None
    first, *results = [json.loads(line) for line in process.stdout]
    assert process.wait(20) == 0
    return {"": first} | {result["id"]: result for result in results}


def records_of(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the final records in the spool by the client's request id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in segments(data_dir / "spool" / "w0"):
        for frame in read_segment(path):
            if frame.kind is Kind.FINAL:
                name = (frame.record.get("extra") or {}).get("request_id", "")
                found.setdefault(name, []).append(dict(frame.record))
    return found


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def deaf_url() -> Iterator[str]:
    """Return a URL where nobody listens, and nobody can inside the block."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the gateway says that it is ready."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "the gateway ended at its start: see gateway.log"
        try:
            if httpx.get(f"{url}/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the gateway was not ready in time: see gateway.log")
