"""What a request makes is gone when it ends: a worker looks for cycles rarely, and they would pile up until then."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.fakes import Drop, FakeVllm, Received, Script, chat_answer, chat_stream, error_response, stream_head
from tests.gateway.conftest import RunningGateway, eventually

REQUESTS = 20
STREAM = chat_stream("teacher", ["a"] * 20)


def _whole(_request: Received) -> Script:
    return [chat_answer("teacher", "whole")]


def _refused(_request: Received) -> Script:
    return [error_response(400, "no")]


def _broken(_request: Received) -> Script:
    return [*STREAM[:5], Drop()]


def _not_begun(_request: Received) -> Script:
    return [stream_head(), Drop()]


@contextmanager
def _garbage() -> Iterator[Counter[str]]:
    """Count what of the gateway's only a search for cycles frees, by type."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        made = (type(thing) for thing in gc.garbage)
        found.update(kind.__qualname__ for kind in made if kind.__module__.startswith("gateway."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _ask(client: httpx.Client, **wanted: Any) -> None:
    for number in range(REQUESTS):
        body = {"model": "teacher", "messages": [{"role": "user", "content": f"hi {number}"}], **wanted}
        client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        (_whole, {}),
        (lambda _request: STREAM, {"stream": True}),
        (_whole, {"model": "nobody"}),
        (_refused, {}),
        (_refused, {"stream": True}),
        (_broken, {"stream": True}),
        (_not_begun, {"stream": True}),
    ],
    ids=["whole", "stream", "no model", "refused", "stream refused", "stream broken", "stream not begun"],
)
def test_a_request_leaves_no_cycle(
    house: RunningGateway, vllm: FakeVllm, script: Callable[[Received], Script], wanted: dict[str, Any]
) -> None:
    """Neither does one that fails: its error, the frames of it and what they hold are gone."""
    vllm.always(script)
    with httpx.Client(base_url=house.url, headers={"authorization": f"Bearer {house.key()}"}, timeout=20) as client:
        _ask(client, **wanted)
        with _garbage() as found:
            _ask(client, **wanted)
    assert {kind: count for kind, count in found.items() if count >= REQUESTS} == {}


def test_a_client_that_leaves_leaves_no_cycle(house: RunningGateway, vllm: FakeVllm) -> None:
    """What was cancelled is gone too."""
    vllm.always(lambda _request: chat_stream("teacher", ["a"] * 20, pause_s=0.1))
    headers = {"authorization": f"Bearer {house.key()}"}
    wanted = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}], "stream": True}

    def leave() -> None:
        with (
            httpx.Client(base_url=house.url, headers=headers) as client,
            client.stream("POST", "/v1/chat/completions", json=wanted) as stream,
        ):
            next(stream.iter_lines())

    leave()
    with _garbage() as found:
        for _ in range(REQUESTS):
            leave()
        eventually(lambda: len(house.frames()) >= REQUESTS)
    assert {kind: count for kind, count in found.items() if count >= REQUESTS} == {}
