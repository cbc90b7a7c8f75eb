"""A real gateway worker, in a thread of the test's process, in front of a scripted vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from openai import OpenAI

from gateway.app import create_app, server_config
from gateway.ledger import accounts, keys
from gateway.ledger.database import Database
from gateway.ledger.frames import Kind
from gateway.ledger.spool import read_segment, segments
from gateway.protocol.listener import listen
from gateway.records import complete
from gateway.settings import GatewaySettings, ModelSettings, Settings
from tests.control_plane import fresh
from tests.fakes import FakeVllm, fake_vllm


@dataclasses.dataclass
class RunningGateway:
    """A worker that serves, the control plane behind it, and what it wrote."""

    settings: Settings
    url: str
    database: Database
    worker: Any
    http: httpx.Client
    hidden: dict[Kind, int] = dataclasses.field(default_factory=dict)

    def account(self, name: str = "acme", *, operator: bool = False) -> None:
        """Make an account."""
        with self.database.write() as connection:
            accounts.create(connection, accounts.new(name, operator=operator), "test")

    def key(
        self, account: str = "acme", requests_per_minute: int | None = None, scope: keys.Scope | None = None
    ) -> str:
        """Make a key, with its account where there is none, and wait until the worker knows it."""
        with self.database.read() as connection:
            known = accounts.find(connection, account)
        if known is None:
            self.account(account)
        with self.database.write() as connection:
            pepper = keys.ensure_secret(connection, self.settings.data_dir)
            _, text = keys.create(connection, pepper, account, "test", requests_per_minute, scope=scope)
        self.synchronise()
        return text

    def synchronise(self) -> None:
        """Have the worker load the newest control state now, as it would within a fifth of a second."""
        self.worker.control.poll()
        assert self.worker.control.current().revision == self.database.revision()

    def client(self, key: str | None = None, **options: Any) -> OpenAI:
        """Return the stock SDK, without its own retries."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key(), max_retries=0, **options)

    def frames(self, kind: Kind = Kind.FINAL) -> list[dict[str, Any]]:
        """Return the records of that kind in the spool since the last `hide_frames`, oldest first."""
        folder = self.settings.data_dir / "spool" / "w0"
        found = [frame for path in segments(folder) for frame in read_segment(path) if frame.kind is kind]
        return [complete(frame.record) for frame in found][self.hidden.get(kind, 0) :]

    def hide_frames(self) -> None:
        """Count what is in the spool as another test's."""
        for kind in (Kind.START, Kind.FINAL):
            self.hidden[kind] = self.hidden.get(kind, 0) + len(self.frames(kind))

    def forgive(self) -> None:
        """Forget what the worker has learnt of its backends."""
        self.worker.fleet.backends.clear()
        self.worker._on_load(self.worker.control.current())

    def record(self, number: int = -1) -> dict[str, Any]:
        """Return one final record, waiting for the first."""
        eventually(lambda: bool(self.frames()))
        return self.frames()[number]


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


@contextmanager
def running_gateway(settings: Settings) -> Iterator[RunningGateway]:
    """Serve with these settings inside the block, on any free port of their host."""
    database = fresh(settings.database_url)
    with database.read() as connection:
        keys.ensure_secret(connection, settings.data_dir)
    listener = listen(settings.gateway.host, 0)
    app = create_app(settings)
    config = server_config(app, grace_s=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    url = f"http://{settings.gateway.host}:{listener.getsockname()[1]}"
    try:
        # No TLS is spoken here, and reading the authorities' certificates takes longer than the rest.
        with httpx.Client(base_url=url, timeout=20, verify=False) as http:
            yield RunningGateway(settings, url, database, app.state.worker, http)
    finally:
        server.should_exit = True
        thread.join(10)
        database.close()


def settings_for(data_dir: Path, *urls: str, **gateway: Any) -> Settings:
    """Return settings with one teacher behind those URLs."""
    teacher = ModelSettings("teacher", "teacher", urls, input_price=1.0, output_price=3.0)
    return Settings(data_dir=data_dir, models=(teacher,), gateway=GatewaySettings(**gateway))


@pytest.fixture
def own_vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM of the test's own, which it may stop."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture
def own_house(tmp_path: Path, own_vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway of the test's own, which it may break."""
    with running_gateway(settings_for(tmp_path, own_vllm.url)) as running:
        yield running


@pytest.fixture(scope="module")
def shared_vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM for the tests of a module."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory, shared_vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway for the tests of a module, with the default settings."""
    with running_gateway(settings_for(tmp_path_factory.mktemp("house"), shared_vllm.url)) as running:
        running.account()
        yield running


@pytest.fixture
def vllm(shared_vllm: FakeVllm) -> FakeVllm:
    """The module's scripted vLLM, with nothing left of the test before."""
    shared_vllm.forget()
    return shared_vllm


@pytest.fixture
def house(shared_house: RunningGateway, vllm: FakeVllm) -> RunningGateway:
    """The module's gateway, whose frames are this test's only."""
    shared_house.hide_frames()
    shared_house.forgive()
    return shared_house
