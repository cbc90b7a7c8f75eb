"""Which backend gets a request, and the next one after a failure."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from gateway.errors import (
    GatewayError,
    NoBackend,
    UpstreamBusy,
    UpstreamDisconnected,
    UpstreamFailed,
    UpstreamUnreachable,
)
from gateway.fleet.backends import Backend
from gateway.fleet.breaker import FAILURES
from gateway.fleet.budget import MOST, PER_REQUEST, RetryBudget
from gateway.fleet.load import Load
from gateway.fleet.pools import BOUND, SLACK, Fleet, Member, Pool
from gateway.protocol.requests import InferenceRequest, parse_request
from gateway.settings import BackendSettings
from tests.checks import Clock
from tests.gateway.fleet.test_backends import fail

URLS = tuple(f"http://10.0.0.{number}:8000" for number in range(1, 9))
A, B, C = URLS[:3]


def request(system: str, question: str = "And now?", **fields: Any) -> InferenceRequest:
    """Return a chat request with that system prompt."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return parse_request("chat.completions", json.dumps({"model": "m", "messages": messages} | fields).encode())


def pool_of(*urls: str, weights: tuple[float, ...] = (), **options: Any) -> Pool:
    """Return a pool whose random numbers are the same in every run."""
    weights = weights or (1.0,) * len(urls)
    members = [Member(Backend(url), weight) for url, weight in zip(urls, weights, strict=True)]
    return Pool("m", members, pick=random.Random(7).random, **options)


def owner(pool: Pool, wanted: InferenceRequest) -> str:
    """Return the URL that a request goes to."""
    chosen = pool.choose(wanted)
    assert chosen is not None
    return chosen.backend.url


def test_the_less_busy_of_two_is_tried_first() -> None:
    """Attempts begin where less work is open and go on with the other backend."""
    pool = pool_of(A, B, balance="least_busy")
    pool.backends[0].inflight = 2
    assert [backend.url for backend in pool.attempts()] == [B, A]


def test_two_choices_never_take_the_busiest() -> None:
    """Whichever two are drawn, the busiest of all loses; the others get their share."""
    pool = pool_of(*URLS, balance="least_busy")
    pool.backends[3].report(Load(running=4, waiting=6, kv_cache=0.1))
    got = Counter(owner(pool, request("s")) for _ in range(800))
    assert got[URLS[3]] == 0
    assert all(60 < got[url] < 180 for url in URLS if url != URLS[3])


def test_work_is_weighed() -> None:
    """A backend of weight 3 ends up with three times the open work."""
    pool = pool_of(A, B, weights=(3.0, 1.0), balance="least_busy")
    for _ in range(400):
        chosen = pool.choose(None)
        assert chosen is not None
        chosen.backend.inflight += 1
    assert [backend.inflight for backend in pool.backends] == [300, 100]


def test_like_prefixes_go_to_one_backend() -> None:
    """Whatever is asked afterwards, and in every gateway, however it lists its backends."""
    here, there = pool_of(*URLS), pool_of(*reversed(URLS))
    for number in range(50):
        text = f"You are assistant number {number}. " + "Be brief. " * 500
        owners = {owner(pool, request(text, f"Question {n}")) for n in range(5) for pool in (here, there)}
        assert len(owners) == 1
    spread = Counter(owner(here, request(f"Prompt {number}")) for number in range(2000))
    assert all(180 < spread[url] < 330 for url in URLS)


def test_prefixes_follow_the_weights() -> None:
    """Three quarters of the prefixes belong to a backend of weight 3 beside one of weight 1."""
    pool = pool_of(A, B, weights=(3.0, 1.0))
    share = sum(owner(pool, request(f"Prompt {number}")) == A for number in range(2000)) / 2000
    assert 0.72 < share < 0.78


def test_a_backend_that_goes_moves_only_its_own_prefixes() -> None:
    """The others keep theirs, which is what their caches are good for."""
    before, after = pool_of(*URLS), pool_of(*URLS[1:])
    for number in range(300):
        wanted = request(f"Prompt {number}")
        was = owner(before, wanted)
        assert was == URLS[0] or owner(after, wanted) == was


def test_a_hot_prefix_is_shared_once_its_backend_is_full() -> None:
    """No backend gets more than the bound over the mean, and few requests never leave their cache."""
    pool, wanted = pool_of(*URLS), request("The same for all")
    for number in range(1, 401):
        chosen = pool.choose(wanted)
        assert chosen is not None
        chosen.backend.inflight += 1
        bound = max(SLACK, BOUND * number / len(URLS) + 1)
        assert max(backend.inflight for backend in pool.backends) <= bound
        if number <= SLACK:
            assert sorted(backend.inflight for backend in pool.backends)[-2] == 0
    assert sum(backend.inflight > 0 for backend in pool.backends) == 7  # the next whole number to 8 / 1.25


def test_a_backend_that_queues_for_cache_takes_no_more_prefixes() -> None:
    """Its own go to the next in their order until it has room again; a crowded house still serves."""
    pool, wanted = pool_of(A, B), request("Long")
    first = next(backend for backend in pool.backends if backend.url == owner(pool, wanted))
    first.report(Load(running=1, waiting=1, kv_cache=0.99))
    assert owner(pool, wanted) != first.url
    for backend in pool.backends:
        backend.report(Load(running=1, waiting=1, kv_cache=0.99))
    assert owner(pool, wanted) in (A, B)


def test_higher_tiers_stand_in() -> None:
    """They get nothing while a backend of a lower tier is available, and the work while none is."""
    settings = [BackendSettings(A), BackendSettings(B, tier=1), BackendSettings(C, tier=1)]
    fleet = Fleet()
    pool = fleet.pool("m", settings, "least_busy")
    assert next(backend.url for backend in pool.attempts()) == A
    fleet.backends[A].seen(alive=False)
    assert {owner(pool, request("s")) for _ in range(50)} == {B, C}
    fleet.backends[A].seen(alive=True)
    assert owner(pool, request("s")) == A
    fail(fleet.backends[A], UpstreamBusy("full", retry_after=5.0))
    assert owner(pool, request("s")) in (B, C)


def test_a_retry_goes_over_to_the_next_tier() -> None:
    """Where every backend of the first has been tried."""
    pool = Fleet().pool("m", [BackendSettings(A), BackendSettings(B, tier=1)])
    assert [backend.url for backend in pool.attempts(request("s"))] == [A, B]


@pytest.mark.parametrize(
    ("error", "tries"), [(UpstreamDisconnected("left"), 2), (UpstreamFailed("500"), 1), (UpstreamUnreachable("no"), 1)]
)
def test_a_sole_backend_is_tried_again_where_it_broke_off(error: GatewayError, tries: int) -> None:
    """That may have been a connection that was just closing; who answers badly is not asked again at once."""
    seen = 0
    for backend in pool_of(A).attempts():
        fail(backend, error)
        seen += 1
    assert seen == tries


def test_no_retry_is_spent_on_nobody() -> None:
    """When all fail, and are asked for want of others, a retry still goes to another one or is not made."""
    pool = pool_of(A, B)
    for _ in range(20):
        tried = []
        for backend in pool.attempts():
            fail(backend, UpstreamFailed("500"))
            tried.append(backend.url)
        assert sorted(tried) == [A, B]
    assert pool.budget.spent == 20


def test_a_backend_that_goes_down_is_not_tried_again() -> None:
    """After a refused connection the next attempt, if there is one, goes elsewhere."""
    pool = pool_of(A)
    attempts = pool.attempts()
    fail(next(attempts), UpstreamUnreachable("refused"))
    assert list(attempts) == []
    assert not pool.ready
    with pytest.raises(NoBackend):
        next(pool.attempts())


def test_backends_that_only_fail_are_asked_when_no_other_is_left() -> None:
    """A request that breaks every server must not take the model from everybody else."""
    pool = pool_of(A, B)
    for _ in range(FAILURES["failing"]):
        fail(pool.backends[0], UpstreamFailed("500"))
    assert {owner(pool, request(f"{number}")) for number in range(20)} == {B}
    for _ in range(FAILURES["failing"]):
        fail(pool.backends[1], UpstreamFailed("500"))
    assert pool.ready
    assert {owner(pool, request(f"{number}")) for number in range(20)} == {A, B}


def test_a_busy_house_says_for_how_long() -> None:
    """The caller is told the time after which the first backend may be asked again."""
    pool = pool_of(A, B)
    fail(pool.backends[0], UpstreamBusy("full", retry_after=5.0))
    fail(pool.backends[1], UpstreamBusy("full", retry_after=3.0))
    with pytest.raises(UpstreamBusy) as caught:
        next(pool.attempts())
    assert 2.5 < (caught.value.retry_after or 0.0) <= 3.0
    assert not pool.ready


def test_retries_are_a_share_of_the_requests() -> None:
    """When everything fails there are a fifth more tries than requests, besides what was saved and a few a second."""
    clock = Clock()
    pool = pool_of(A, B, C, budget=RetryBudget(clock))
    tries = sum(len(list(pool.attempts())) for _ in range(2000))
    assert 2000 <= tries <= 2000 * (1 + PER_REQUEST) + MOST
    assert pool.budget.spent == tries - 2000
    assert pool.budget.refused > 0
    clock.now += 1.0
    assert sum(len(list(pool.attempts())) - 1 for _ in range(20)) == 10 + round(20 * PER_REQUEST)


def test_models_that_share_a_server_share_what_is_known() -> None:
    """A URL is one backend, however it is written and whoever uses it, and is forgotten when nobody does."""
    fleet = Fleet()
    first, second = fleet.pool("a", [A]), fleet.pool("b", [A + "/v1/"])
    assert first.backends[0] is second.backends[0]
    fleet.keep([second])
    assert (list(fleet.backends), list(fleet.budgets)) == ([A], ["b"])
    fleet.keep([])
    assert (fleet.backends, fleet.budgets) == ({}, {})


def test_a_new_pool_goes_on_with_the_old_budget() -> None:
    """Models are put together anew at every decision of an operator."""
    fleet = Fleet()
    pool = fleet.pool("a", [A, B])
    list(pool.attempts())
    assert fleet.pool("a", [A]).budget.spent == 1


def test_drained_backends_get_nothing_new() -> None:
    """Whether they are known before or after the decision, and however the URL is written."""
    fleet = Fleet()
    pool = fleet.pool("m", [A, B])
    fleet.drain([A + "/v1/", C])
    assert {owner(pool, request(f"{number}")) for number in range(20)} == {B}
    assert not fleet.pool("n", [C]).ready
    fleet.drain([])
    assert {owner(pool, request(f"{number}")) for number in range(20)} == {A, B}
