"""Enforcement and requests per minute, as a running worker applies them."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest

from gateway.admission import Admission, Places, duration
from gateway.ledger import enforcement, keys, limits
from gateway.limits.queue import FairQueue
from gateway.metrics import GatewayMetrics
from gateway.protocol.driving import Driver
from gateway.settings import LimitsSettings
from tests.control_plane import impose
from tests.fakes import FakeVllm, Hang, Wait, chat_answer, error_response, stream_head
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for

HI: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": "teacher", "messages": HI}

IMPOSE = """
import sys
from datetime import timedelta
from gateway.ledger import enforcement
from gateway.ledger.database import Database
with Database(sys.argv[1]).write() as connection:
    duration = timedelta(seconds=float(sys.argv[2]))
    step = enforcement.Step("suspend", duration)
    enforcement.take(connection, ["harvester", "linked"], step, "olga", "secret reason")
print("imposed", flush=True)
"""


def post(house: RunningGateway, key: str) -> httpx.Response:
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=BODY)


@pytest.mark.slow
def test_a_suspension_by_another_process_binds_within_a_second(house: RunningGateway) -> None:
    """403 with neutral text within a second, for all of a set and nobody else, recorded; it ends by itself."""
    key, linked, other = house.key("harvester"), house.key("linked"), house.key()
    assert post(house, key).status_code == 200
    command = [sys.executable, "-c", IMPOSE, house.database.url, "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imposed\n"
        imposed = time.monotonic()
        while (answer := post(house, key)).status_code == 200:
            assert time.monotonic() - imposed < 1.0
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (403, "permission_denied")
    assert "reason" not in answer.text
    assert "suspend" not in answer.text
    assert house.record()["status"] == 403
    assert post(house, linked).status_code == 403
    assert post(house, other).status_code == 200
    with pytest.raises(openai.PermissionDeniedError):
        house.client(key).models.list()
    eventually(lambda: post(house, key).status_code == 200)


def test_a_cleared_suspension_ends_at_once(house: RunningGateway) -> None:
    """Clearing lets the account in again within a second."""
    key = house.key("cleared")
    with house.database.write() as connection:
        impose(connection, "cleared", "suspend", "olga", "x", timedelta(days=1))
    eventually(lambda: post(house, key).status_code == 403, 1.0)
    with house.database.write() as connection:
        enforcement.clear(connection, "cleared", "olga", "a mistake")
    eventually(lambda: post(house, key).status_code == 200, 1.0)


def test_a_revoked_key_is_refused_within_a_second(house: RunningGateway) -> None:
    """401 for the revoked key, while the account's other key goes on."""
    key, other = house.key(), house.key()
    hint = key[-4:]
    with house.database.write() as connection:
        row = next(row for row in keys.every(connection, "acme") if row.hint == hint)
        keys.revoke(connection, row.id, "test")
    eventually(lambda: post(house, key).status_code == 401, 1.0)
    assert post(house, other).status_code == 200


def test_requests_per_minute(house: RunningGateway) -> None:
    """The limit stands in the headers; beyond it comes 429 with the time that a request really needs to wait."""
    key = house.key("limited", requests_per_minute=60)
    answers = [post(house, key) for _ in range(5)]
    first = answers[0].headers
    assert first["x-ratelimit-limit-requests"] == "60"
    assert first["x-ratelimit-remaining-requests"] == "59"
    assert first["x-ratelimit-reset-requests"] == "1s"
    while (answer := post(house, key)).status_code == 200:
        pass
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    wait = int(answer.headers["retry-after-ms"]) / 1000
    assert 0 < wait <= 1.0
    assert answer.headers["retry-after"] == "1"
    time.sleep(wait)
    assert post(house, key).status_code == 200
    assert [record["status"] for record in house.frames()][-2:] == [429, 200]


def test_the_sdk_waits_and_succeeds(house: RunningGateway) -> None:
    """With its retries on, the stock SDK comes back after the named time and is served."""
    client = house.client(house.key("patient", requests_per_minute=60)).with_options(max_retries=2)
    while client.chat.completions.with_raw_response.create(model="teacher", messages=HI).retries_taken == 0:
        pass
    assert house.record()["status"] == 200
    sample = house.worker.metrics.registry.get_sample_value("spiritsafe_client_retries_total")
    assert sample is not None
    assert sample >= 1


def test_keys_without_a_limit_have_no_headers_of_it(house: RunningGateway) -> None:
    """The default is no limit, and then none is claimed."""
    assert not any(name.startswith("x-ratelimit") for name in post(house, house.key()).headers)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.12, "120ms"), (6.5, "6.5s"), (60.0, "1m0s"), (90.25, "1m30.25s"), (float("inf"), "24h0m0s")],
)
def test_durations_read_like_openais(seconds: float, text: str) -> None:
    """Reset times have the form that clients parse."""
    assert duration(seconds) == text


def limit(house: RunningGateway, subject: limits.Subject, name: str, **change: Any) -> None:
    """Set limits, and wait until the worker has them."""
    with house.database.write() as connection:
        limits.assign(connection, subject, name, change, "olga", ["teacher"])
    house.synchronise()


def key_id(house: RunningGateway, key: str) -> str:
    """Return the id of a key."""
    with house.database.read() as connection:
        return next(row.id for row in keys.every(connection) if row.hint == key[-4:])


@pytest.fixture
def unlimited(house: RunningGateway) -> Iterator[RunningGateway]:
    """The module's gateway, without the limits of the test in the end."""
    yield house
    with house.database.write() as connection:
        for found in limits.every(connection):
            limits.clear(connection, found.subject, found.name, "test")


def test_tokens_are_reserved_and_what_was_not_used_comes_back(unlimited: RunningGateway, vllm: FakeVllm) -> None:
    """The bound must fit the limit, a longest answer goes to the backend, and only what was used stays used."""
    house, key = unlimited, unlimited.key("tokens")
    limit(house, "account", "tokens", tpm=3000)
    for used in (10, 20, 30):
        answer = post(house, key)
        assert answer.status_code == 200, answer.text
        left = int(post(house, key).headers["x-ratelimit-remaining-tokens"])
        assert left <= 3000 - 500 - used
    assert answer.headers["x-ratelimit-limit-tokens"] == "3000"
    assert vllm.received[-1].body["max_completion_tokens"] == 2048
    eventually(lambda: int(post(house, key).headers["x-ratelimit-remaining-tokens"]) < 1000)
    body = BODY | {"max_completion_tokens": 2000, "n": 2}
    too_large = house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body)
    assert (too_large.status_code, too_large.json()["error"]["type"]) == (429, "tokens")
    assert too_large.headers["x-should-retry"] == "false"
    assert "retry-after" not in too_large.headers


def test_a_budget_ends_with_insufficient_quota(unlimited: RunningGateway) -> None:
    """What answers cost is spent to the nano-dollar; then the SDK is told not to come back."""
    house, key = unlimited, unlimited.key("poor")
    price = 7 * 1000 + 3 * 3000
    limit(house, "account", "poor", usd_day=2 * price + 200_000, max_output=3)
    costs = []
    while (answer := post(house, key)).status_code == 200:
        costs.append(int(answer.headers["x-spiritsafe-cost"]))
    assert set(costs) == {price}
    assert answer.status_code == 429
    assert (answer.json()["error"]["type"], answer.json()["error"]["code"]) == ("insufficient_quota",) * 2
    assert answer.headers["x-should-retry"] == "false"
    with pytest.raises(openai.RateLimitError):
        house.client(key).with_options(max_retries=5).chat.completions.create(model="teacher", messages=HI)
    assert sum(record["cost"] for record in house.frames()) == sum(costs)
    limit(house, "account", "poor", usd_day=None)
    assert post(house, key).status_code == 200


def test_requests_in_flight_are_limited_and_freed_when_a_client_leaves(
    unlimited: RunningGateway, vllm: FakeVllm
) -> None:
    """The second at the same time is refused; the slot is free as soon as the first client has gone."""
    house, key = unlimited, unlimited.key("narrow")
    limit(house, "key", key_id(house, key), parallel=1)
    vllm.play(stream_head(), Hang())
    with (
        pytest.raises(httpx.ReadTimeout),
        house.http.stream(
            "POST",
            "/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json=BODY | {"stream": True},
            timeout=0.5,
        ),
    ):
        pass
    vllm.play(Wait(0.3), chat_answer("teacher", "Hello"))
    eventually(lambda: len(vllm.received) == 1 and vllm.received[0].left.is_set())
    thread = threading.Thread(target=post, args=(house, key))
    eventually(lambda: post_many(house, key, thread) == 429)
    thread.join()
    assert post(house, key).status_code == 200


def post_many(house: RunningGateway, key: str, thread: threading.Thread) -> int:
    """Start the thread's request where it has not been, and return the status of one beside it."""
    if thread.ident is None:
        thread.start()
        time.sleep(0.1)
    return post(house, key).status_code


def test_a_models_limit_counts_all_accounts(unlimited: RunningGateway) -> None:
    """Two accounts share what a model takes; the record of a refused request says why."""
    house, first, second = unlimited, unlimited.key("left"), unlimited.key("right")
    limit(house, "model", "teacher", rpm=2)
    assert [post(house, key).status_code for key in (first, second, first, second)] == [200, 200, 429, 429]
    assert house.record()["error"] == "rate_limit_exceeded"


def test_an_answer_longer_than_the_limit_is_refused(unlimited: RunningGateway, vllm: FakeVllm) -> None:
    """400 for what was asked; where nothing was asked the limit goes to the backend."""
    house, key = unlimited, unlimited.key("brief")
    limit(house, "account", "brief", max_output=5)
    headers = {"authorization": f"Bearer {key}"}
    refused = house.http.post("/v1/chat/completions", headers=headers, json=BODY | {"max_tokens": 6})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    assert house.http.post("/v1/chat/completions", headers=headers, json=BODY | {"max_tokens": 5}).status_code == 200
    assert "max_completion_tokens" not in vllm.received[-1].body
    assert post(house, key).status_code == 200
    assert vllm.received[-1].body["max_completion_tokens"] == 5


def test_a_failed_request_costs_nothing(unlimited: RunningGateway, vllm: FakeVllm) -> None:
    """A backend's failure gives tokens and money back."""
    house, key = unlimited, unlimited.key("unlucky")
    limit(house, "account", "unlucky", usd_day=10_000_000, parallel=1, tpm=5000)
    for _ in range(5):
        vllm.play(error_response(500, "boom"))
        assert post(house, key).status_code == 502
    assert post(house, key).status_code == 200


@pytest.fixture
def narrow_house(tmp_path: Path, own_vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway with one place at its model, where two may wait three seconds."""
    settings = settings_for(tmp_path, own_vllm.url, max_in_flight=1)
    waiting = LimitsSettings(queue_length=2, queue_wait_s=3.0, forward_priority=True)
    with running_gateway(dataclasses.replace(settings, limits=waiting)) as running:
        yield running


def test_a_full_house_queues(narrow_house: RunningGateway, own_vllm: FakeVllm) -> None:
    """One waits and is told how long, its lane reaches vLLM; more than may wait, or for too long: 429 with a time."""
    house, key = narrow_house, narrow_house.key()
    own_vllm.always(lambda request: [Wait(2.0), chat_answer("teacher", "Hello")])
    body, headers = BODY | {"service_tier": "flex"}, {"authorization": f"Bearer {key}"}
    with ThreadPoolExecutor(6) as pool:
        sent = [pool.submit(house.http.post, "/v1/chat/completions", headers=headers, json=body) for _ in range(6)]
        answers = [found.result() for found in sent]
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(served), len(refused)) == (2, 4)
    waited = sorted(float(answer.headers["x-spiritsafe-queue-ms"]) for answer in served)
    assert waited[0] == 0.0
    assert 100.0 < waited[1] < 3000.0
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limit_exceeded"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {received.body["priority"] for received in own_vllm.received} == {10}
    assert [record["queue_ms"] > 100 for record in house.frames() if "queue_ms" in record] == [True]
    metrics = house.worker.metrics.registry
    assert metrics.get_sample_value("spiritsafe_queue_seconds_count", {"lane": "batch"}) == 1.0


def test_a_client_that_leaves_while_it_waits_leaves_the_queue(narrow_house: RunningGateway, own_vllm: FakeVllm) -> None:
    """Its turn goes to the next, and the backend never hears of it."""
    house, key = narrow_house, narrow_house.key()
    headers = {"authorization": f"Bearer {key}"}
    own_vllm.always(lambda request: [Wait(2.0), chat_answer("teacher", "Hello")])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, house, key)
        eventually(lambda: len(own_vllm.received) == 1)
        with pytest.raises(httpx.ReadTimeout):
            house.http.post("/v1/chat/completions", headers=headers, json=BODY, timeout=1.0)
        assert first.result().status_code == 200
    eventually(lambda: [record["status"] for record in house.frames()] == [499, 200])
    assert len(own_vllm.received) == 1
    assert post(house, key).status_code == 200


async def test_a_turn_that_comes_just_as_its_client_leaves_is_not_lost() -> None:
    """Both in one turn of the loop: the place is free again, where it would else be nobody's for good."""
    queue, ended = FairQueue(1, 10, 5.0), list[BaseException | None]()
    assert queue.enter_now()
    limiter: Any = SimpleNamespace(limits={})
    exchange: Any = SimpleNamespace(
        account=SimpleNamespace(name="acme"), key=SimpleNamespace(family="k"), timing=SimpleNamespace(queued_s=0.0)
    )
    request: Any = SimpleNamespace(body={}, raw=b"{}")
    admission = Admission(limiter, GatewayMetrics(), lambda model: 2048, lambda: Places({}))
    driver = Driver(admission.wait(exchange, request, queue), lambda driver, error: ended.append(error))
    driver.start()
    await asyncio.sleep(0.01)
    assert queue.waiting("interactive") == 1
    queue.leave()
    driver.cancel()
    await asyncio.sleep(0.01)
    assert [type(error) for error in ended] == [asyncio.CancelledError]
    assert queue.enter_now()
    assert not queue.enter_now()
