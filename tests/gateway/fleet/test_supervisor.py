"""One vLLM server: how it is started, and what its failures mean to the one who reads them."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.fleet import supervisor
from gateway.fleet.supervisor import StartProblem, VllmServer, free_port, last_error
from gateway.settings import VllmSettings
from tests.gateway.house.stand_in_vllm import make_model, make_python

MEMORY = """\
INFO 11-24 10:00:00 [core.py:1] Initializing
(EngineCore pid=7) ERROR 11-24 10:00:01 [core.py:9] RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: out of memory
(APIServer pid=6) Traceback (most recent call last):
(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""  # noqa: E501 - vLLM's lines are as long as that
PORT = "OSError: [Errno 98] Address already in use\n"
ABSENT = "/venv/bin/python: Error while finding module specification (ModuleNotFoundError: No module named 'vllm')\n"
LENGTH = """\
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, User-specified max_model_len (100000) is greater than the derived max_model_len
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
OPTION = "usage: api_server.py [options]\napi_server.py: error: unrecognized arguments: --no-such-thing\n"


@pytest.fixture
def server(tmp_path: Path) -> VllmServer:
    """A model of the stand-in, ready to be started."""
    make_model(tmp_path / "weights")
    settings = VllmSettings(python=str(make_python(tmp_path)), environment=("OMP_NUM_THREADS=1", "X=a=b"))
    return VllmServer("teacher", Path("weights"), free_port(), 2048, settings, tmp_path, ("--dtype", "bfloat16"))


def test_a_sound_server_passes_the_check(server: VllmServer) -> None:
    """Nothing is refused that could start."""
    server.check()


def test_what_can_be_seen_is_said_before_the_start(server: VllmServer, tmp_path: Path) -> None:
    """A missing environment, an empty folder and a taken port are named at once, each with its remedy."""
    with pytest.raises(StartProblem, match="make setup-vllm"):
        replace(server, settings=VllmSettings(python=str(tmp_path / "none"))).check()
    with pytest.raises(StartProblem, match=r"config\.json.*models\.serve\.path"):
        replace(server, path=Path("elsewhere")).check()
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(StartProblem, match=f"port {server.port} is taken.*another `port`"),
    ):
        server.check()


@pytest.mark.parametrize(
    ("code", "log", "reason", "remedy"),
    [
        (1, MEMORY, "can't allocate memory: out of memory", "free some memory"),
        (-9, "", "signal 9", "memory ran out"),
        (1, PORT, "Address already in use", "another `port`"),
        (1, ABSENT, "No module named 'vllm'", "make setup-vllm"),
        (1, LENGTH, "User-specified max_model_len (100000) is greater", "context_length"),
        (2, OPTION, "unrecognized arguments: --no-such-thing", "vllm.arguments"),
        (1, "", "its log is empty", "read its log"),
    ],
)
def test_a_failed_start_is_explained(server: VllmServer, code: int, log: str, reason: str, remedy: str) -> None:
    """One paragraph gives the cause from the log, not vLLM's last word about it, and what to do."""
    explanation = server.explain(code, log)
    assert reason in explanation
    assert remedy in explanation
    assert "\n" not in explanation


def test_the_last_error_wins() -> None:
    """Of several errors the last is the one that ended it; without one, the last line speaks."""
    assert last_error("ValueError: first\nINFO x\nKeyError: 'second'\nbye\n") == "KeyError: 'second'"
    assert last_error("one\ntwo\n\n") == "two"


def test_it_listens_on_loopback(server: VllmServer) -> None:
    """vLLM's own port is never open to others: its metrics and tokenizer know no key."""
    command = server.command()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--served-model-name") + 1] == "teacher"


def test_it_logs_no_request(server: VllmServer) -> None:
    """vLLM writes prompts down only with --enable-log-requests and at the level DEBUG: it gets neither from here."""
    assert not [argument for argument in server.command() if argument.startswith("--enable-log")]
    assert "--disable-uvicorn-access-log" in server.command()
    assert "VLLM_LOGGING_LEVEL" not in server.environment()


def test_settings_win(server: VllmServer) -> None:
    """What the settings say comes after, or instead of, what is chosen here."""
    command = server.command()
    assert command[-2:] == ("--dtype", "bfloat16")
    environment = server.environment()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["X"] == "a=b"


def test_cpu_arguments_are_for_cpus(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an NVIDIA GPU is found, nothing that is meant for a CPU is passed."""
    monkeypatch.setattr(supervisor, "has_nvidia_gpu", lambda: False)
    assert "--enforce-eager" in server.command()
    assert server.environment()["VLLM_CPU_KVCACHE_SPACE"] == "1"
    monkeypatch.setattr(supervisor, "has_nvidia_gpu", lambda: True)
    assert "--enforce-eager" not in server.command()
    assert not any(name.startswith(("VLLM_CPU", "KMP", "LD_")) for name in server.environment())


def test_faster_libraries_are_preloaded_where_they_are(tmp_path: Path) -> None:
    """Intel's OpenMP in vLLM's environment is used; its absence is no error."""
    without = supervisor.preloaded(tmp_path)
    assert not any("libiomp5" in path and str(tmp_path) in path for path in without)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libiomp5.so").touch()
    assert str(tmp_path / "lib" / "libiomp5.so") in supervisor.preloaded(tmp_path)
