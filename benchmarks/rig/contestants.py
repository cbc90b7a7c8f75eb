"""Who is measured: Spiritsafe with everything switched on, and what people put in front of vLLM instead.

A peer that isn't installed is named with the command that installs it, and left out.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.rig.ours import spiritsafe
from benchmarks.rig.servers import ROOT, Contestant, await_answer, free_port, started
from benchmarks.rig.texts import MODEL

PEERS = ROOT / ".venv-peers" / "bin"
PORTKEY = ROOT / "benchmarks" / "peers" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


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
        features = "one provider by header; no keys; by its own code holds a stream's first chunk back for 25 ms"
        yield Contestant("Portkey", f"http://127.0.0.1:{port}", features, process, headers)


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
        running: list[Contestant] = [stack.enter_context(spiritsafe(folder, upstream_url))]
        running.append(Contestant("direct", upstream_url, "nothing in between"))
        for name, start in PEER_STARTERS.items():
            if name not in missing and (names is None or name in names):
                running.append(stack.enter_context(start(folder, upstream_url)))
        for contestant in running:
            await_answer(contestant)
        yield running
