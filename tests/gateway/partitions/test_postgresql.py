"""A gateway that does not reach PostgreSQL, or the other; Valkey and the clients see nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from gateway import operator
from gateway.ledger import accounts
from gateway.ledger.database import Database
from tests.gateway.partitions.site import BOUND, BUDGET, VISIBLE_S, Site, soon, spend

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]
Measure = Callable[[str, object], None]


def test_known_keys_and_limits_are_unharmed(site: Site) -> None:
    """Both gateways answer at once and are ready; what they share of a budget is spent to the end and not beyond."""
    key, limited = site.account("known"), site.account("budget", usd_day=BUDGET)
    with site.network.partition("a", "postgresql"):
        for machine in site.both():
            began = time.monotonic()
            assert [machine.status(key) for _ in range(5)] == [200] * 5
            assert time.monotonic() - began < 1.0
            assert machine.ready() == 200
        assert BUDGET - BOUND < spend(site.both(), limited) <= BUDGET


def test_what_is_decided_meanwhile(site: Site, cut: str, record_property: Measure) -> None:
    """The gateway that hears of it follows within a second; the other goes by what it knew; a new key is 503 there."""
    there, here = site.machines[cut], site.other(cut)
    name = f"decided-{cut}"
    key = site.account(name)
    key_id, leaked = here.new_key(name)
    soon(lambda: there.status(leaked) == 200)
    with site.network.partition(cut, "postgresql"):
        _, new = here.new_key(name)
        here.revoke(key_id)
        soon(lambda: (here.status(new), here.status(leaked)) == (200, 401), VISIBLE_S)
        time.sleep(VISIBLE_S)
        assert (there.status(key), there.status(leaked)) == (200, 200)
        refused = there.ask(new)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "control_state_unavailable")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        soon(lambda: (there.metric("spiritsafe_control_state_age_seconds") or 0) > 3.5)
        assert (here.metric("spiritsafe_control_state_age_seconds") or 9) < VISIBLE_S
    took = soon(lambda: (there.status(new), there.status(leaked), there.status(key)) == (200, 401, 200))
    record_property("healed_s", round(took, 2))
    assert (there.metric("spiritsafe_control_state_age_seconds") or 9) < VISIBLE_S


def test_a_state_that_is_too_old_is_not_gone_by(
    site: Site, monkeypatch: pytest.MonkeyPatch, record_property: Measure
) -> None:
    """After `snapshot_max_age_s` the gateway that is cut off answers 503 and is not ready; the other serves on."""
    there, here = site.both()
    key = site.account("old")
    monkeypatch.setattr(there.house.worker.control, "max_age_s", 2.0)
    with site.network.partition("a", "postgresql"):
        soon(lambda: there.status(key) == 503)
        assert there.ask(key).json()["error"]["code"] == "control_state_unavailable"
        assert (there.ready(), here.ready(), here.status(key)) == (503, 200, 200)
    record_property("healed_s", round(soon(lambda: (there.status(key), there.ready()) == (200, 200)), 2))


def test_a_writer_that_is_cut_off_holds_up_nobody_for_long(site: Site, record_property: Measure) -> None:
    """What it had begun is undone and the lock of writers is free, before any other of them gives up (10 s)."""
    there, here = site.both()
    site.account("writing")

    waited: list[float] = []

    def be_cut_off(connection: Any) -> None:
        accounts.create(connection, accounts.new("undone"), "test")
        with site.network.partition("a", "postgresql"):
            began = time.monotonic()
            with pytest.raises(sa.exc.OperationalError):
                there.new_key("writing")
            record_property("failed_s", round(time.monotonic() - began, 2))
            here.new_key("writing")
            waited.append(time.monotonic() - began)

    with pytest.raises(sa.exc.OperationalError):
        there.decide(be_cut_off)
    assert waited
    record_property("waited_s", round(waited[0], 2))
    with site.network.inside("b"), here.house.database.read() as connection:
        assert accounts.find(connection, "undone") is None


def test_metrics_are_there_without_the_database(site: Site, record_property: Measure) -> None:
    """The operator process's `/metrics` leaves out what only the database knows, before Prometheus would give up."""
    there = site.machines["a"]
    with site.network.inside("a"):
        database = Database(there.house.database.url)
        with TestClient(operator.create_app(there.house.settings, database)) as client:
            assert "spiritsafe_open_alerts" in client.get("/metrics").text
            with site.network.partition("a", "postgresql"):
                began = time.monotonic()
                page = client.get("/metrics").text
                record_property("answered_s", round(time.monotonic() - began, 2))
                assert time.monotonic() - began < 10.0
            assert "spiritsafe_control_state_age_seconds" in page
            assert "spiritsafe_open_alerts{" not in page
        database.close()
