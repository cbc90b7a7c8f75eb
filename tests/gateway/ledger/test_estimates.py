"""Dry runs: the arithmetic of every step, on traffic whose answer can be counted by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import accounts, alerts, declared_usage, declared_uses, dry_runs, enforcement, policies
from gateway.ledger.database import Database
from gateway.ledger.enforcement import Step
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.estimates import Estimate, House, estimate, read, total
from gateway.ledger.identifiers import now, to_rfc3339, uuid7
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table


def record(account: str, ago: timedelta = timedelta(hours=1), tokens: int = 100, **fields: Any) -> dict[str, Any]:
    """Return an answered request of the teacher, named."""
    return {
        "id": uuid7(), "time": to_rfc3339(now() - ago), "origin": "live", "account": account,
        "endpoint": "chat.completions", "model": "teacher", "model_role": "teacher", "model_requested": "teacher",
        "status": 200, "usage": {"input_tokens": 5, "output_tokens": tokens, "source": "exact"}, "cost": 1000,
        "counterfactual_cost": 1000, "parameters": {}, **fields,
    }  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A week of two accounts: `a` collects, `b` does this and that."""
    lake = Lake(tmp_path / "lake" / "traffic")
    rows = [record("a", model_requested="auto") for _ in range(6)]
    rows += [record("a", parameters={"logprobs": True, "top_logprobs": 5}) for _ in range(2)]
    rows += [record("a", tokens=400, parameters={"n": 4})]
    rows += [record("a", model="fruit@1", model_role="student", model_requested="auto", tokens=70)]
    rows += [record("a", status=429, tokens=9999), record("a", timedelta(days=8), tokens=9999)]
    rows += [record("a", origin="synthetic", tokens=9999)]
    rows += [record("a", endpoint="embeddings", model_requested="auto", tokens=0)]
    rows += [record("b", parameters={"n": 1, "logprobs": False}), record("b", parameters={"logprobs": 0})]
    lake.append(to_table(rows))
    return lake


SUMS = {"requests": 11, "teacher_requests": 10, "teacher_tokens": 1200}


@pytest.mark.parametrize(
    ("step", "house", "expected"),
    [
        (Step("watch"), House(), {}),
        (Step("strip"), House(), {"changed": 3, "stopped_tokens": 300}),
        (Step("divert"), House(), {"changed": 3, "stopped_tokens": 300}),
        (
            Step("divert"),
            House(student=True),
            {"changed": 9, "stopped_requests": 6, "stopped_tokens": 900, "stopped_cost": 6000},
        ),
        (
            Step("divert"),
            House(student=True, divert_named={"a"}),
            {"changed": 9, "stopped_requests": 9, "stopped_tokens": 1200, "stopped_cost": 9000},
        ),
        (
            Step("suspend"),
            House(),
            {"refused": 11, "stopped_requests": 10, "stopped_tokens": 1200, "stopped_cost": 10_000},
        ),
    ],
)
def test_a_step_is_played_over_the_last_week(lake: Lake, step: Step, house: House, expected: dict[str, int]) -> None:
    """Answered requests of seven days, as admission would treat them; what was refused then, or made up, is no part."""
    requests = read(lake, ["a"], now() - timedelta(days=7))
    assert estimate(requests, step, house) == {"a": Estimate(**(SUMS | expected))}


def test_a_cap_is_replayed_day_by_day(tmp_path: Path) -> None:
    """In the order of time, each day of the calendar anew; what does not fit is refused, what comes after may fit."""
    lake = Lake(tmp_path / "lake" / "traffic")
    noon = now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    rows = [_at(noon + timedelta(minutes=number), tokens) for number, tokens in enumerate((60, 50, 40))]
    rows += [_at(noon + timedelta(days=1), 100), _at(noon + timedelta(days=1, minutes=1), 1)]
    lake.append(to_table(rows))
    found = total(
        estimate(read(lake, ["a"], now() - timedelta(days=7)), Step("cap", tokens_per_day=100), House()).values()
    )
    assert (found.refused, found.stopped_tokens, found.teacher_tokens) == (2, 51, 251)
    assert found.share == pytest.approx(51 / 251)


def _at(moment: datetime, tokens: int) -> dict[str, Any]:
    return record("a", tokens=tokens) | {"time": to_rfc3339(moment)}


def test_of_a_set_the_others_are_told(database: Database, lake: Lake) -> None:
    """Who is hit without an alert that names them counts as another; a step against one account hits nobody else."""
    with database.write() as connection:
        for name in ("a", "b"):
            accounts.create(connection, accounts.new(name), "tester")
        alerts.raise_or_update(connection, "a", "high", 0.9, [], {})
    found = dry_runs.of_step(database, lake, ["a", "b"], Step("suspend"))
    alone = dry_runs.of_step(database, lake, ["b"], Step("suspend"))
    with pytest.raises(NotFound):
        dry_runs.of_step(database, lake, ["nobody"], Step("suspend"))
    with pytest.raises(InvalidValue):
        dry_runs.of_step(database, lake, ["a"], Step("cap"))
    with database.read() as connection:
        assert enforcement.history(connection) == []
    assert (found.total.refused, found.total.others_refused, alone.total.others_refused) == (13, 2, 0)
    assert found.total.sentence() == (
        "Would have stopped 100% of the teacher tokens of the last 7 days (1,400 of 1,400 tokens; 12 of 12 requests to "
        "the teacher, $0.00), refused 13 and changed 0 of 13 requests, among them 2 and 0 of others."
    )
    assert sorted(found.figures()["accounts"]) == ["a", "b"]


def test_without_traffic_there_is_nothing_to_go_by(database: Database, tmp_path: Path) -> None:
    """No lake, or no request: the sentence says so, and no share is made up."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("a"), "tester")
    found = dry_runs.of_step(database, Lake(tmp_path / "none"), ["a"], Step("suspend")).total
    assert (found.share, "nothing to go by" in found.sentence()) == (None, True)


def test_a_policy_is_played_over_past_alerts(database: Database, lake: Lake) -> None:
    """Whom it would have hit, what people decided of them, what it would have changed since; nothing is done."""
    with database.write() as connection:
        for name in ("a", "b"):
            accounts.create(connection, accounts.new(name), "tester")
        policy = policies.create(connection, "p", "strip", "ann", "x", severity="medium", spread=timedelta(hours=1))
        hit = alerts.raise_or_update(connection, "a", "high", 0.9, [], {"leaked_tokens": 7})[0]
        alerts.decide(connection, hit.id, "dismiss", "bob", "fine")
        alerts.raise_or_update(connection, "b", "low", 0.5, [], {})
        opened = now() - timedelta(hours=3)
        connection.execute(alerts.table.update().values(opened=opened))
    (found,) = dry_runs.of_policy(database, lake, policy, now() - timedelta(days=14))
    assert dry_runs.of_policy(database, lake, policy, now()) == []
    with database.write() as connection:
        assert enforcement.history(connection) == []
        connection.execute(policies.table.update().values(action="suspend"))
        policy = policies.get(connection, "p")
    with pytest.raises(Forbidden, match="never automatic"):
        dry_runs.of_policy(database, lake, policy, now())
    row = found.row()
    assert (row["account"], row["decided"], row["changed"], row["stopped_tokens"]) == ("a", "dismiss", 3, 300)
    assert row["begins"] - row["opened"] == timedelta(hours=1)


def test_a_declared_use_is_held_against_the_traffic(database: Database, lake: Lake) -> None:
    """Requests since it was granted, by day, beside the cap."""
    soon = now() + timedelta(days=1)
    with database.write() as connection:
        accounts.create(connection, accounts.new("a"), "tester")
        wide = declared_uses.declare(connection, "a", "evaluation", "olga", 100, soon)
        tight = declared_uses.declare(connection, "a", "tests", "olga", 3, soon)
        connection.execute(declared_uses.table.update().values(created=now() - timedelta(days=3)))
        uses = declared_uses.of_account(connection, "a")
    found = declared_usage.of_uses(lake, uses)
    assert found[wide.id].peak in (13, found[tight.id].today)  # an hour ago may be yesterday
    assert (found[wide.id].over, found[tight.id].over) == (0, 1)
    assert declared_usage.of_uses(lake, []) == {}
