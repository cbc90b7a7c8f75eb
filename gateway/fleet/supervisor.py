"""One vLLM server: how it is started, when it is ready, and what a failed start means.

The house (`gateway.house`) keeps the process; this module knows vLLM. On a machine without an NVIDIA GPU the arguments
and variables that serve best on a CPU are added; see `cpu_arguments` and `cpu_environment`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.settings import VllmSettings

LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT_S = 10.0
WARM_UP_TIMEOUT_S = 180.0
ERROR_LINE = re.compile(r"[\w.]*(?:Error|Exception)\b: .+|\berror: .+")
# What vLLM writes before each line of its processes.
PREFIX = re.compile(r"^\(\w+ pid=\d+\) (?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]+\] ?)?")
# vLLM's parent process ends with this when its engine failed; the cause stands above it.
SECONDARY = re.compile(r"Engine core initialization failed|See (?:root cause|stack trace)")

# What the log says → what to do; the first that fits.
REMEDIES: tuple[tuple[str, str], ...] = (
    (r"No module named '?vllm", "install vLLM with `make setup-vllm`, or name its interpreter in vllm.python"),
    (r"address already in use|Errno 98", "choose another `port` in [models.serve]"),
    (
        r"out of memory|cannot allocate memory|MemoryError|No available memory|memory for the cache",
        "free some memory, serve fewer models, or give vLLM less with vllm.environment or vllm.arguments",
    ),
    (r"unrecognized arguments|invalid choice|expected one argument", "mend vllm.arguments or models.serve.arguments"),
    (r"max_model_len|max_position_embeddings|max seq", "lower the model's context_length"),
    (r"config\.json|safetensors|weights|checkpoint|tokenizer", "check that the model's folder is complete"),
)


class StartProblem(Exception):
    """A server could not be started or stopped serving; the message is one paragraph that ends with the remedy."""


@dataclass(frozen=True)
class VllmServer:
    """A model to serve: `name` is what vLLM calls it, `path` its folder; relative paths start at `base_dir`."""

    name: str
    path: Path
    port: int
    context_length: int
    settings: VllmSettings
    base_dir: Path
    arguments: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where it listens: loopback only, because `/metrics` and `/tokenize` know no key."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def python(self) -> Path:
        """The interpreter of vLLM's environment. Not resolved: a link is what tells Python of its environment."""
        return self.base_dir / self.settings.python

    def check(self) -> None:
        """Raise `StartProblem` for what can be seen before a start that takes half a minute to fail."""
        if not self.python.exists():
            raise StartProblem(f"{self.python} does not exist: run `make setup-vllm`, or set vllm.python")
        folder = self.base_dir / self.path
        if not (folder / "config.json").exists():
            raise StartProblem(
                f"{folder} holds no model (no config.json there): set models.serve.path to a folder of weights in "
                "Hugging Face's format; `make setup-models` makes the demo's"
            )
        if not port_is_free(LOOPBACK, self.port):
            raise StartProblem(
                f"port {self.port} is taken by another program: end it, or choose another `port` in [models.serve]"
            )

    def command(self) -> tuple[str, ...]:
        """Return the command line; later arguments win over earlier ones."""
        own = (str(self.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.base_dir / self.path))
        place = ("--served-model-name", self.name, "--host", LOOPBACK, "--port", str(self.port))
        generic = ("--max-model-len", str(self.context_length), "--enable-prompt-tokens-details")
        quiet = ("--disable-uvicorn-access-log",)
        cpu = () if has_nvidia_gpu() else cpu_arguments()
        return (*own, *place, *generic, *quiet, *cpu, *self.settings.arguments, *self.arguments)

    def environment(self) -> dict[str, str]:
        """Return the variables to add to the house's own."""
        generic = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        cpu = {} if has_nvidia_gpu() else cpu_environment(self.python.parent.parent)
        own = dict(item.partition("=")[::2] for item in self.settings.environment)
        return generic | cpu | own

    def is_healthy(self) -> bool:
        """Ask `/health`; blocks for at most ten seconds."""
        try:
            return _request(self.port, "GET", "/health", None, PROBE_TIMEOUT_S)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def warm_up(self) -> None:
        """Make one short completion, because the first one after a start is slow; raises `StartProblem` if it fails."""
        body = {"model": self.name, "prompt": "Hello", "max_tokens": 4, "temperature": 0}
        try:
            status, answer = _request(self.port, "POST", "/v1/completions", body, WARM_UP_TIMEOUT_S)
        except (OSError, http.client.HTTPException) as error:
            raise StartProblem(f"the first completion failed ({error!r}): its log says why") from error
        if status != 200:
            raise StartProblem(f"the first completion was answered {status} ({answer[:200]}): its log says why")

    def explain(self, code: int, log: str) -> str:
        """Return why the process ended, in one paragraph taken from its log, with the remedy where one is known."""
        if code == -9:
            return "was killed (signal 9); where nobody did that, memory ran out: free some or serve fewer models."
        found = last_error(log)
        remedy = next((text for pattern, text in REMEDIES if re.search(pattern, found, re.IGNORECASE)), "read its log")
        return f"ended with status {code}: {found or 'its log is empty'}. Remedy: {remedy}."


def has_nvidia_gpu() -> bool:
    """Return whether the NVIDIA driver shows a device here."""
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()


def cpu_arguments() -> tuple[str, ...]:
    """Return what vLLM needs to be quick on a CPU: bfloat16 is emulated on AVX2, and compiling takes two minutes."""
    executor = ("--distributed-executor-backend", "uni")
    return ("--dtype", "float32", "--enforce-eager", *executor, "--block-size", "32")


def cpu_environment(environment: Path) -> dict[str, str]:
    """Return the variables for a CPU: all cores, but no waiting in a spin, so that several models share them."""
    variables = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "OMP_WAIT_POLICY": "PASSIVE",
        "KMP_BLOCKTIME": "1",
    }
    libraries = preloaded(environment)
    return variables | ({"LD_PRELOAD": ":".join(libraries)} if libraries else {})


def preloaded(environment: Path) -> list[str]:
    """Return Intel's OpenMP and tcmalloc, the faster ones, where vLLM's environment or the system has them."""
    folders = [
        environment / "lib",
        *map(Path, ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")),
    ]
    found = []
    for pattern in ("libtcmalloc_minimal.so.4*", "libiomp5.so"):
        matches = [path for folder in folders for path in sorted(folder.glob(pattern))]
        found += [str(path) for path in matches[:1]]
    return found


def last_error(log: str) -> str:
    """Return the last error that a log speaks of, with the lines that belong to it, or the log's last line."""
    lines = [line for raw in log.splitlines() if (line := PREFIX.sub("", raw)).strip()]
    errors = [
        " ".join([match.group(), *_continued(lines[number + 1 :])])
        for number, line in enumerate(lines)
        if (match := ERROR_LINE.search(line)) and not SECONDARY.search(line)
    ]
    return (errors or lines or [""])[-1].strip()[:400].rstrip(".")


def _continued(lines: list[str]) -> list[str]:
    return [line.strip() for line in itertools.takewhile(lambda line: line.startswith("  "), lines[:3])]


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could bind the address now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # As servers do: a connection of an earlier server that is still closing is no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


def _request(port: int, method: str, path: str, body: Mapping[str, object] | None, timeout: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()
