"""Enforcement and requests per minute, as a running worker applies them."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest

from gateway.admission import duration
from gateway.ledger import enforcement, keys
from tests.gateway.conftest import RunningGateway, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]
BODY = {"model": "teacher", "messages": HI}

IMPOSE = """
import sys
from datetime import timedelta
from gateway.ledger import enforcement
from gateway.ledger.database import Database
with Database(sys.argv[1]).write() as connection:
    duration = timedelta(seconds=float(sys.argv[2]))
    enforcement.impose(connection, "harvester", "suspend", "olga", "secret reason", duration)
print("imposed", flush=True)
"""


def post(house: RunningGateway, key: str) -> httpx.Response:
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=BODY)


def test_a_suspension_by_another_process_binds_within_a_second(house: RunningGateway) -> None:
    """403 with neutral text within a second, for that account only, recorded; it ends by itself at its time."""
    key, other = house.key("harvester"), house.key()
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
    assert post(house, other).status_code == 200
    with pytest.raises(openai.PermissionDeniedError):
        house.client(key).models.list()
    eventually(lambda: post(house, key).status_code == 200)


def test_a_cleared_suspension_ends_at_once(house: RunningGateway) -> None:
    """Clearing lets the account in again within a second."""
    key = house.key("cleared")
    with house.database.write() as connection:
        enforcement.impose(connection, "cleared", "suspend", "olga", "x", timedelta(days=1))
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
