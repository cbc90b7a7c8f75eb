"""A fleet in trouble, seen by its callers: backends that die, come back, are full or slow, behind a real gateway."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.settings import BackendSettings, ModelSettings, Settings
from tests.fakes import FakeVllm, Received, Script, Wait, chat_answer, fake_vllm, response
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for

pytestmark = pytest.mark.slow
BUSY = response(b'{"error": {"message": "full"}}', 429, extra="retry-after: 1\r\n")


def ask(house: RunningGateway, key: str, text: str = "hi") -> httpx.Response:
    """Send a request and return the answer."""
    body: dict[str, Any] = {"model": "teacher", "messages": [{"role": "user", "content": text}]}
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body)


def slowly(_: Received) -> Script:
    """Answer after a moment, so that requests are under way when something happens."""
    return [Wait(0.05), chat_answer("teacher", "Hello there!")]


def under_load(house: RunningGateway, happening: Callable[[], None], clients: int = 8) -> Counter[int]:
    """Let clients ask without pause while something happens; how often each status came."""
    key, over = house.key(), threading.Event()

    def one_client(number: int) -> list[int]:
        statuses: list[int] = []
        while not over.is_set():
            statuses.append(ask(house, key, f"client {number}, request {len(statuses)}").status_code)
        return statuses

    with ThreadPoolExecutor(clients) as threads:
        asked = [threads.submit(one_client, number) for number in range(clients)]
        try:
            happening()
        finally:
            over.set()
        return Counter(status for future in asked for status in future.result(20))


def test_no_caller_notices_a_backend_that_dies_and_comes_back(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """What was under way there is answered by the other; once back it gets its work again, slowly."""
    first = FakeVllm().start()
    port, fakes = first.port, [first]
    own_vllm.always(slowly)
    first.always(slowly)

    def happening() -> None:
        eventually(lambda: len(first.received) > 20)
        first.stop()
        backend = house.worker.fleet.backends[first.url]
        eventually(lambda: not backend.up)
        time.sleep(0.3)
        fakes.append(FakeVllm().start(port))
        fakes[1].always(slowly)
        eventually(lambda: len(fakes[1].received) > 3)
        assert backend.breaker.state == "recovering"

    try:
        with running_gateway(settings_for(tmp_path, own_vllm.url, first.url)) as house:
            statuses = under_load(house, happening)
            records = Counter(record["status"] for record in house.frames())
    finally:
        for fake in fakes:
            fake.stop()
    assert set(statuses) == {200}
    assert records == statuses, "a request was lost or doubled in the record"


def test_a_full_backend_is_left_alone_for_the_time_it_names(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """Its request is answered by the other one, and so are the next ones; then it is asked again."""
    with fake_vllm() as other, running_gateway(settings_for(tmp_path, own_vllm.url, other.url)) as house:
        key = house.key()
        ask(house, key)
        owner = own_vllm if own_vllm.received else other
        owner.play(BUSY)
        assert [ask(house, key).status_code for _ in range(5)] == [200] * 5
        assert len(owner.received) == 2
        assert house.worker.fleet.backends[owner.url].up
        eventually(lambda: ask(house, key).status_code == 200 and len(owner.received) > 2, 3.0)


def test_a_full_house_names_the_time(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """Nobody is sent to a server that wants to be left alone: the caller hears for how long."""
    with running_gateway(settings_for(tmp_path, own_vllm.url)) as house:
        key = house.key()
        own_vllm.play(BUSY)
        answers = [ask(house, key), ask(house, key)]
        assert [(a.status_code, a.json()["error"]["code"]) for a in answers] == [(503, "backend_busy")] * 2
        assert 0 < int(answers[1].headers["retry-after-ms"]) <= 1000
        assert len(own_vllm.received) == 1
        eventually(lambda: ask(house, key).status_code == 200, 3.0)


def test_a_failover_tier_takes_over_and_gives_back(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """It gets nothing until the first tier is down, and nothing once that is back."""
    main = FakeVllm().start()
    model = ModelSettings("teacher", backends=(main.url, BackendSettings(own_vllm.url, tier=1)))
    with running_gateway(Settings(data_dir=tmp_path, models=(model,))) as house:
        key = house.key()
        assert [ask(house, key).status_code for _ in range(3)] == [200] * 3
        assert own_vllm.received == []
        main.stop()
        assert [ask(house, key).status_code for _ in range(3)] == [200] * 3
        assert len(own_vllm.received) == 3
        with fake_vllm(port=main.port) as back:
            eventually(lambda: house.worker.fleet.backends[main.url].up)
            assert [ask(house, key).status_code for _ in range(3)] == [200] * 3
            assert (len(own_vllm.received), len(back.received)) == (3, 3)


def test_a_failing_fleet_meets_no_storm(tmp_path: Path, own_vllm: FakeVllm) -> None:
    """When every answer is an error the tries stay near the number of requests."""
    error = response(b"{}", 500)
    with fake_vllm() as other, running_gateway(settings_for(tmp_path, own_vllm.url, other.url)) as house:
        own_vllm.always(lambda _: [error])
        other.always(lambda _: [error])
        key = house.key()
        pool = house.worker.catalogue.teacher.pool
        pool.budget._balance = 0.0
        statuses = Counter(ask(house, key, f"request {number}").status_code for number in range(100))
        assert statuses == {502: 100}
        assert len(own_vllm.received) + len(other.received) == 100 + pool.budget.spent
        assert pool.budget.refused > 0
