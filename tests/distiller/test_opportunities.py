"""What is worth a student: what costs much, is asked alike, can be learnt and may be used."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from distiller.opportunities import ASSUMED_GAP, Opportunity, adequate_share, opportunities, predictability, price_gap
from distiller.selection import to_row
from gateway.ledger import registry
from gateway.ledger.identifiers import now, to_rfc3339
from tests.distiller.house import House, record, records, tickets
from tests.distiller.test_commands import Desk
from tests.gateway.ledger.test_registry import student

NOISE = [f"noise{number}" for number in range(400)]


def recent(rows: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """The rows of the last hours, with what they cost."""
    begin = now() - timedelta(hours=9)
    times = [to_rfc3339(begin + timedelta(seconds=number)) for number in range(len(rows))]
    return [row | {"time": time, "cost": 1000} | changes for row, time in zip(rows, times, strict=True)]


def scattered(count: int, skeleton: str) -> list[dict[str, Any]]:
    """Requests that have nothing in common, and whose answers can't be told from them."""
    draw = random.Random(5)
    rows = []
    for number in range(count):
        text, answer = (" ".join(draw.choices(NOISE, k=12)) for _ in range(2))
        fields = {"response": {"content": answer, "choices": 1}, "fingerprint": {"skeleton": skeleton}}
        rows.append(record(number, text, **fields) | {"id": f"s{number}"})
    return rows


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def found(house: House) -> list[Opportunity]:
    with house.database.read() as connection:
        return opportunities(house.settings, connection, house.lake, days=1)


def test_a_task_that_can_be_learnt_comes_before_one_that_can_not(house: House) -> None:
    """Labels of tickets, a third as dear, before dearer answers that no earlier request tells."""
    house.log(recent(records(240)) + recent(scattered(240, "5c" * 16), cost=3000))
    first, second = found(house)
    assert first.skeleton == record(0, "a")["fingerprint"]["skeleton"]
    assert (first.cost_a_day, second.cost_a_day) == (240_000, 720_000)
    assert first.predictable > 0.5 > 0.2 > second.predictable
    assert first.adequate > 0.8
    assert first.estimate_a_day > second.estimate_a_day
    assert first.price_gap == ASSUMED_GAP
    assert first.examples[-1].startswith("r")


def test_what_may_not_be_used_counts_less(house: House) -> None:
    """With half of the requests without `store` the usable share and the estimate are halved; the reason is counted."""
    rows = recent(records(240))
    house.log([row | {"store": number % 2 == 0} for number, row in enumerate(rows)])
    [only] = found(house)
    assert only.usable == 0.5
    assert only.left_out == {"no_store": 120} | {name: n for name, n in only.left_out.items() if name != "no_store"}
    assert only.estimate_a_day == pytest.approx(
        only.cost_a_day * only.price_gap * only.adequate * only.predictable / 2, rel=0.01
    )


def test_what_students_saved_stands_beside_the_estimate(house: House) -> None:
    """Requests of the task that a student answered: what the teacher would have cost, less what it did."""
    answered = recent(records(50, seed=4), cost=300, counterfactual_cost=1000, model="tickets@1", model_role="student")
    house.log(recent(records(150)) + [row | {"id": f"x{row['id']}"} for row in answered])
    assert found(house)[0].saved_a_day == 50 * 700


def test_few_requests_say_nothing(house: House) -> None:
    """Below a hundred a task is no opportunity."""
    house.log(recent(records(99)))
    assert found(house) == []


def test_the_price_gap_is_the_median_of_measured_students(house: House) -> None:
    """Prices that the gate measured replace the assumption."""
    with house.database.write() as connection:
        for version, price in enumerate((600, 900, 2700), 1):
            registry.add(connection, student("tickets", version, output_price=price, input_price=1), "test")
        assert price_gap(house.settings, connection) == pytest.approx(0.7)


def test_predictability_of_constant_and_of_random_answers() -> None:
    """An answer that is always the same is learnt at once, one that nothing tells is not."""
    rows = [to_row(row) for row in records(100)]
    assert predictability([row.__class__(**vars(row) | {"answer": "other"}) for row in rows]) == 1.0
    assert predictability([to_row(row) for row in scattered(100, "00")]) < 0.1
    assert predictability(rows[:1]) == 0.0
    assert adequate_share(tickets(30)) == 0.0


def test_the_command_names_the_next_step(tmp_path: Path) -> None:
    """It prints the clusters as JSON, and how to go on from the first."""
    desk = Desk(tmp_path, rows=1)
    desk.house.log(recent(records(150, seed=3)))
    result = desk("opportunities", "--days", "1")
    assert result.exit_code == 0, result.stderr
    assert "distill select --task NAME --like r00149" in result.stderr
