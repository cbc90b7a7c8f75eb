"""Hosts that do not speak to each other may be parted, and a client that can't reach one gateway reaches the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.fakes import Hang, chat_stream
from tests.gateway.partitions.site import BODY, BOUND, BUDGET, LOST_S, VISIBLE_S, Site, soon, spend

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]
Measure = Callable[[str, object], None]
STREAM = BODY | {"stream": True}


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("postgresql", "valkey")])
def test_nobody_notices(site: Site, one: str, other: str) -> None:
    """Keys are known and refused everywhere within a second, a budget is spent to the end and no further."""
    name = f"parted-{one}"
    site.account(name)
    limited = site.account(f"{name}-limited", usd_day=BUDGET)
    with site.network.partition(one, other):
        key_id, new = site.machines["a"].new_key(name)
        soon(lambda: all(machine.status(new) == 200 for machine in site.both()), VISIBLE_S)
        site.machines["b"].revoke(key_id)
        soon(lambda: all(machine.status(new) == 401 for machine in site.both()), VISIBLE_S)
        assert BUDGET - BOUND < spend(site.both(), limited) <= BUDGET
        for machine in site.both():
            assert machine.ready() == 200
            assert machine.metric("spiritsafe_limit_store_up") == 1.0
            assert (machine.metric("spiritsafe_control_state_age_seconds") or 9) < VISIBLE_S


def test_a_client_goes_to_the_other_gateway(site: Site) -> None:
    """It gets no answer from the one that it can't reach, and the same answers from the other."""
    there, here = site.both()
    key = site.account("client")
    with site.network.partition("client", "a"):
        with site.network.inside("client"), pytest.raises(httpx.ConnectTimeout):
            httpx.get(f"{there.house.url}/health", timeout=0.5, verify=False)
        assert here.status(key) == 200
    assert there.status(key) == 200


def test_a_stream_goes_on(site: Site, record_property: Measure) -> None:
    """A client that waits gets the rest of its stream, byte for byte, and the record says that it was whole."""
    there = site.machines["a"]
    key = site.account("stream")
    words = [f"word{number} " for number in range(20)]
    there.vllm.play(*chat_stream("teacher", words, pause_s=0.1))
    headers = {"authorization": f"Bearer {key}"}
    with (
        site.network.inside("client"),
        there.house.http.stream("POST", "/v1/chat/completions", headers=headers, json=STREAM) as answer,
    ):
        chunks = answer.iter_text()
        text = next(chunks)
        with site.network.partition("client", "a"):
            time.sleep(2.0)
        began = time.monotonic()
        text += next(chunks)
        record_property("healed_s", round(time.monotonic() - began, 2))
        text += "".join(chunks)
    assert [word for word in words if word not in text] == []
    assert text.endswith("data: [DONE]\n\n")
    assert there.house.record()["status"] == 200


@contextmanager
def open_stream(site: Site, key: str) -> Iterator[None]:
    """A stream of gateway A that has begun and whose backend says no more; closed at the end of the block."""
    there = site.machines["a"]
    there.vllm.play(*chat_stream("teacher", ["Hello", " there"])[:-3], Hang())
    headers = {"authorization": f"Bearer {key}"}
    with (
        site.network.inside("client"),
        httpx.Client(base_url=there.house.url, verify=False) as http,
        http.stream("POST", "/v1/chat/completions", headers=headers, json=STREAM) as answer,
    ):
        chunks = answer.iter_bytes()  # whose end would be the connection's
        next(chunks)
        yield


def test_a_client_that_left_meanwhile(site: Site, record_property: Measure) -> None:
    """Its leaving is heard of after healing; its place is free then."""
    key = site.account("left", parallel=1)
    with ExitStack() as cut:
        with open_stream(site, key):
            cut.enter_context(site.network.partition("client", "a"))
        time.sleep(1.0)
        assert site.machines["b"].status(key) == 429
    record_property("healed_s", round(soon(lambda: site.machines["b"].status(key) == 200), 2))


def test_a_client_that_never_comes_back(site: Site, record_property: Measure) -> None:
    """It is given up after a time, and its place is free without healing."""
    key = site.account("vanished", parallel=1)
    there, here = site.both()
    with open_stream(site, key), site.network.partition("client", "a"):
        began = time.monotonic()
        assert here.status(key) == 429
        soon(lambda: here.status(key) == 200, LOST_S + 4.0)
        record_property("given_up_s", round(time.monotonic() - began, 2))
        assert there.vllm.received[-1].left.wait(1)
