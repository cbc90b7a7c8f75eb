"""Who is measured: Spiritsafe with everything switched on, and what people put in front of vLLM instead.

A peer that isn't installed is named with the command that installs it, and left out.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rig.accounting import tree
from benchmarks.rig.texts import MODEL, request_body
from gateway.ledger import accounts, keys, limits
from gateway.ledger.database import open_database

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin"
PORTKEY = ROOT / "benchmarks" / "peers" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
# None of them low: what is measured is the keeping of limits, not their refusals.
EVERY_LIMIT = {
    "rpm": 10**9,
    "tpm": 10**9,
    "parallel": 10**6,
    "usd_day": 10**15,
    "usd_month": 10**15,
    "max_output": 4096,
}
LIMITED: tuple[tuple[limits.Subject, str], ...] = (("account", "bench"), ("key", ""), ("model", MODEL))
START_S = 180.0  # LiteLLM takes its time


@dataclass
class Contestant:
    """A running server: where it answers, with which headers, and what was switched on."""

    name: str
    url: str
    features: str
    process: subprocess.Popen[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The server's processes."""
        return tree(self.process.pid) if self.process is not None else []

    @property
    def load_arguments(self) -> list[str]:
        """What the load generator is told."""
        pairs = [f"{name}: {value}" for name, value in self.headers.items()]
        return [f"{self.url}/v1/chat/completions", *(part for pair in pairs for part in ("--header", pair))]


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server inside the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | (environment or {}), cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def upstream(folder: Path, *, first_ms: float = 0.0, gap_ms: float = 0.0) -> Iterator[str]:
    """Run the stand-in for vLLM; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.rig.upstream", "--port", str(port)]
    with started([*command, "--first-ms", str(first_ms), "--gap-ms", str(gap_ms)], folder / "upstream.log"):
        url = f"http://127.0.0.1:{port}"
        await_answer(Contestant("upstream", url, ""))
        yield url


@contextmanager
def spiritsafe(folder: Path, upstream_url: str, workers: int = 1) -> Iterator[Contestant]:
    """Run our gateway with a key, every limit, the full record and metrics."""
    house = folder / f"spiritsafe-{workers}"
    house.mkdir()
    port = free_port()
    settings = f"""
data_dir = "./data"
[[models]]
name = "{MODEL}"
role = "teacher"
backends = ["{upstream_url}"]
input_price = 1.00
output_price = 3.00
context_length = 4096
[gateway]
port = {port}
workers = {workers}
"""
    file = house / "spiritsafe.toml"
    file.write_text(settings)
    key = prepare(house / "data")
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--config", str(file)]
    features = "keys, enforcement, limits, budget, routing, full record in the spool, metrics"
    with started(command, house / "gateway.log") as process:
        yield Contestant(
            "spiritsafe" if workers == 1 else f"spiritsafe ({workers} workers)",
            f"http://127.0.0.1:{port}",
            features,
            process,
            {"Authorization": f"Bearer {key}"},
        )


def prepare(data_dir: Path) -> str:
    """Make an account whose requests meet every limit there is, none of them low, and return its key."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'control.sqlite'}")
    with database.write() as connection:
        accounts.create(connection, accounts.new("bench"), "benchmark")
        row, key = keys.create(connection, keys.ensure_secret(connection, data_dir), "bench", "benchmark")
        for subject, name in LIMITED:
            limits.assign(connection, subject, name or row.id, EVERY_LIMIT, "benchmark", [MODEL])
    database.close()
    return key


@contextmanager
def nginx(folder: Path, upstream_url: str) -> Iterator[Contestant]:
    """Run nginx as a plain proxy."""
    port, home = free_port(), folder / "nginx"
    home.mkdir()
    temporary = "\n".join(
        f"  {kind}_temp_path {home / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {home / "pid"}; error_log {home / "error.log"} crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_buffer_size 64k;
{temporary}
  upstream vllm {{ server {upstream_url.removeprefix("http://")}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://vllm; }}
  }}
}}
"""
    )
    with started(["nginx", "-c", str(home / "nginx.conf")], home / "log") as process:
        yield Contestant("nginx", f"http://127.0.0.1:{port}", "nothing: a plain proxy", process)


@contextmanager
def vllm_router(folder: Path, upstream_url: str) -> Iterator[Contestant]:
    """Run vLLM's own router (Rust)."""
    port = free_port()
    command = [str(PEERS / "vllm-router"), "--worker-urls", upstream_url, "--port", str(port), "--host", "127.0.0.1"]
    command += ["--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "error"]
    with started(command, folder / "vllm-router.log") as process:
        yield Contestant("vllm-router", f"http://127.0.0.1:{port}", "round robin, metrics; no keys, no record", process)


@contextmanager
def litellm(folder: Path, upstream_url: str) -> Iterator[Contestant]:
    """Run LiteLLM's proxy with a master key, without a database."""
    port, file = free_port(), folder / "litellm.yaml"
    parameters = f"{{model: openai/{MODEL}, api_base: '{upstream_url}/v1', api_key: none}}"
    file.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params: {parameters}\n"
        "general_settings:\n  master_key: sk-bench\nlitellm_settings:\n  set_verbose: false\n"
    )
    command = [str(PEERS / "litellm"), "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]
    with started([*command, "--num_workers", "1"], folder / "litellm.log", {"LITELLM_LOG": "ERROR"}) as process:
        headers = {"Authorization": "Bearer sk-bench"}
        yield Contestant("LiteLLM", f"http://127.0.0.1:{port}", "one master key; no database", process, headers)


@contextmanager
def portkey(folder: Path, upstream_url: str) -> Iterator[Contestant]:
    """Run Portkey's open gateway."""
    port = free_port()
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    with started(
        ["node", str(PORTKEY), f"--port={port}", "--headless"], folder / "portkey.log", environment
    ) as process:
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream_url}/v1"}
        headers["Authorization"] = "Bearer none"
        yield Contestant("Portkey", f"http://127.0.0.1:{port}", "one provider by header; no keys", process, headers)


def missing_peers() -> dict[str, str]:
    """Return the peers that can't take part, and how they are installed."""
    found = {}
    if shutil.which("nginx") is None:
        found["nginx"] = "apt-get install nginx-light"
    if not (PEERS / "vllm-router").exists():
        found["vllm-router"] = found["LiteLLM"] = "make setup-peers"
    if not PORTKEY.exists():
        found["Portkey"] = "make setup-peers (needs Node)"
    return found


PEER_STARTERS = {"nginx": nginx, "vllm-router": vllm_router, "Portkey": portkey, "LiteLLM": litellm}


@contextmanager
def everybody(folder: Path, upstream_url: str, names: list[str] | None = None) -> Iterator[list[Contestant]]:
    """Start all who can take part; yields those that answer, ours first."""
    missing = missing_peers()
    for name, command in missing.items():
        print(f"{name} is not installed and left out: {command}", file=sys.stderr)
    with ExitStack() as stack:
        running = [stack.enter_context(spiritsafe(folder, upstream_url))]
        running.append(Contestant("direct", upstream_url, "nothing in between"))
        for name, start in PEER_STARTERS.items():
            if name not in missing and (names is None or name in names):
                running.append(stack.enter_context(start(folder, upstream_url)))
        for contestant in running:
            await_answer(contestant)
        yield running


def await_answer(contestant: Contestant) -> None:
    """Wait until it answers a chat request; `RuntimeError` with its last words when it does not."""
    deadline, last = time.monotonic() + START_S, ""
    while time.monotonic() < deadline:
        if contestant.process is not None and contestant.process.poll() is not None:
            raise RuntimeError(f"{contestant.name} ended at its start with status {contestant.process.returncode}")
        try:
            request = urllib.request.Request(
                f"{contestant.url}/v1/chat/completions",
                request_body(),
                {"Content-Type": "application/json"} | contestant.headers,
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                json.load(answer)
                return
        except urllib.error.HTTPError as error:
            last = f"{error.code} {error.read()[:300]!r}"
        except (OSError, ValueError) as error:
            last = str(error)
        time.sleep(0.25)
    raise RuntimeError(f"{contestant.name} does not answer: {last}")
