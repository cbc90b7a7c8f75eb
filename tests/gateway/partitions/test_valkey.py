"""A gateway that does not reach Valkey, or the other; keys and decisions are PostgreSQL's and go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import Wait, chat_answer
from tests.gateway.partitions.site import BOUND, BUDGET, PATIENCE_S, VISIBLE_S, Machine, Site, soon, spend

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]
Measure = Callable[[str, object], None]
STORE_UP = "spiritsafe_limit_store_up"


def test_keys_and_decisions_are_unharmed(site: Site, cut: str, record_property: Measure) -> None:
    """Accounts without limits are served, also with a key made meanwhile; a revocation binds within a second."""
    there, here = site.machines[cut], site.other(cut)
    name = f"free-{cut}"
    key, limited = site.account(name), site.account(f"limited-{cut}", rpm=600)
    with site.network.partition(cut, "valkey"):
        assert there.status(limited) == 200
        key_id, new = here.new_key(name)
        soon(lambda: (there.status(new), here.status(new)) == (200, 200), VISIBLE_S)
        here.revoke(key_id)
        soon(lambda: (there.status(new), here.status(new)) == (401, 401), VISIBLE_S)
        assert (there.status(key), here.status(key)) == (200, 200)
        soon(lambda: (there.metric(STORE_UP), here.metric(STORE_UP)) == (0.0, 1.0))
        assert (there.ready(), here.ready()) == (200, 200)
    record_property("healed_s", round(soon(lambda: there.metric(STORE_UP) == 1.0), 2))


def test_rates_are_divided(site: Site) -> None:
    """The gateway that is cut off lets its half through and what it had in hand, the other the rest; then it is 429."""
    there, here = site.both()
    key = site.account("paced", rpm=60)
    assert there.status(key) == 200
    with site.network.partition("a", "valkey"):
        began = time.monotonic()
        passed = {machine.host: passing(machine, key) for machine in (there, here)}
        refilled = time.monotonic() - began + 1.0
        assert 30 <= passed["a"] <= 45 + refilled / 2
        assert sum(passed.values()) <= 90 + 2 * refilled, "half the limit more than it allows, at most"


def passing(machine: Machine, key: str) -> int:
    """Ask until it is refused for the rate; return how often it was not."""
    count = 0
    while (answer := machine.ask(key)).status_code == 200:
        count += 1
    assert answer.status_code == 429
    return count


def test_a_budget_is_never_overspent(site: Site) -> None:
    """Cut off, what is held of it is spent, then it is 503 at once; others can't have that part, and healed all can."""
    there, here = site.both()
    key = site.account("shared", usd_day=BUDGET)
    spent = sum(int(there.ask(key).headers["x-spiritsafe-cost"]) for _ in range(2))
    with site.network.partition("a", "valkey"):
        held = spend([there], key)
        assert 0 < held < BUDGET / 4
        began = time.monotonic()
        refused = there.ask(key)
        assert time.monotonic() - began < 0.2, "it waited for a store that is known to be away"
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "budget_store_unavailable")
        spent += held + spend([here], key)
        assert here.ask(key).status_code == 429
        assert BUDGET / 2 < spent <= BUDGET
    soon(lambda: there.metric(STORE_UP) == 1.0)
    spent += spend([there, here], key)
    assert BUDGET - BOUND < spent <= BUDGET
    assert [machine.ask(key).json()["error"]["code"] for machine in (there, here)] == ["insufficient_quota"] * 2


def test_what_was_reserved_is_given_back(site: Site, record_property: Measure) -> None:
    """A place whose request ended meanwhile stays taken for the others, who get it once its gateway can say so."""
    there, here = site.both()
    key = site.account("one", parallel=1)
    there.vllm.play(Wait(1.0), chat_answer("teacher", "at last"))
    with ThreadPoolExecutor(1) as pool:
        received = len(there.vllm.received)
        under_way = pool.submit(there.status, key)
        soon(lambda: len(there.vllm.received) > received)
        with site.network.partition("a", "valkey"):
            assert here.status(key) == 429
            assert under_way.result(10) == 200
            time.sleep(PATIENCE_S)
            assert here.status(key) == 429
        record_property("healed_s", round(soon(lambda: here.status(key) == 200), 2))
