"""Which processes make up the house, in the order in which they are started."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

from gateway.fleet.supervisor import VllmServer, free_port
from gateway.house.process import Program
from gateway.house.services import ModelService, PythonService
from gateway.ledger.registry import Student
from gateway.settings import ModelSettings, Settings

GROUP = "spiritsafe.processes"
GRACE_S = 20.0  # more than a worker itself allows its answers under way


class Plan:
    """The services of one house, made from its settings with the ports it listens on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.gateway_port = settings.gateway.port or free_port()
        self.operator_port = settings.operator.port or free_port()

    @property
    def gateway_url(self) -> str:
        """Where the public endpoint is reached from this machine."""
        return _url(self._settings.gateway.host, self.gateway_port)

    @property
    def operator_url(self) -> str:
        """Where operators reach the console from this machine."""
        return _url(self._settings.operator.host, self.operator_port)

    def services(self) -> list[PythonService]:
        """Return Spiritsafe's own processes."""
        contributed = [self._service(name, "process", name) for name in process_names()]
        return [self._ingester(), self._operator(), *self._workers(), *contributed]

    def models(self) -> list[ModelService]:
        """Return the models that the settings file wants served here."""
        return [self._model(model) for model in self._settings.models if model.serve is not None]

    def student(self, student: Student) -> ModelService:
        """Return a student of the registry as something to serve, on a free port."""
        server = VllmServer(
            student.reference,
            Path(student.path),
            free_port(),
            student.context_length,
            self._settings.vllm,
            self._settings.base_dir,
        )
        return ModelService(server, self._log(f"model-{student.reference}"), any_port=True)

    def _model(self, model: ModelSettings) -> ModelService:
        assert model.serve is not None
        server = VllmServer(
            model.name,
            Path(model.serve.path),
            model.serve.port,
            model.context_length,
            self._settings.vllm,
            self._settings.base_dir,
            model.serve.arguments,
        )
        return ModelService(server, self._log(f"model-{model.name}"))

    def _workers(self) -> list[PythonService]:
        slots = [f"w{number}" for number in range(self._settings.gateway.workers)]
        url, own = self.gateway_url, self._settings.gateway
        grace_s = own.drain_notice_s + self._settings.longest_request_s + GRACE_S
        return [
            PythonService(
                f"gateway-{slot}",
                "gateway",
                self._program(f"gateway-{slot}", "-m", "gateway.app", "--slot", slot, grace_s=grace_s),
                url,
                f"{url}/health",
            )
            for slot in slots
        ]

    def _ingester(self) -> PythonService:
        program = self._program("ingester", "-m", "gateway.cli", "ingester", "run", grace_s=60.0)
        return PythonService("ingester", "ingester", program)

    def _operator(self) -> PythonService:
        program = self._program("operator", "-m", "gateway.cli", "operator", "run")
        return PythonService("operator", "operator", program, self.operator_url, f"{self.operator_url}/health")

    def _service(self, name: str, *arguments: str) -> PythonService:
        return PythonService(name, "service", self._program(name, "-m", "gateway.cli", *arguments))

    def _program(self, name: str, *arguments: str, grace_s: float = 15.0) -> Program:
        file = self._settings.file
        config = ("--config", str(file)) if file is not None and file.exists() else ()
        # Port 0 means any free one; the children are told which one it became.
        ports = {
            "SPIRITSAFE_GATEWAY__PORT": str(self.gateway_port),
            "SPIRITSAFE_OPERATOR__PORT": str(self.operator_port),
        }
        command = (sys.executable, *arguments, *config)
        return Program(command, ports, self._log(name), Path.cwd(), grace_s)

    def _log(self, name: str) -> Path:
        return self._settings.data_dir / "logs" / f"{name}.log"


def process_names() -> list[str]:
    """Return the names of the processes that other packages contribute."""
    return sorted(point.name for point in entry_points(group=GROUP))


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"http://{reachable}:{port}"
