"""Evaluation on accounts that nothing was learnt from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from distiller.held_out import held_out
from distiller.rows import Row
from distiller.splitting import Sizes, split

SIZES = Sizes(gate=40, calibration=30, least_train=60)


def rows(counts: dict[str, int]) -> list[Row]:
    """That many rows of each account, spread evenly over the same days."""
    made = []
    for account, count in counts.items():
        for number in range(count):
            time = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=10 * number / count)
            body = {"messages": [{"role": "user", "content": f"{account} {number}"}]}
            made.append(Row(f"{account}{number}", time, account, f"{account}{number}", body, "x"))
    return sorted(made, key=lambda row: (row.time, row.id))


def test_nothing_is_learnt_from_the_accounts_that_are_asked_about() -> None:
    """The gate has held accounts' newest rows, the others' older ones train, and what is left out adds up."""
    made = rows({f"a{number}": 60 for number in range(10)})
    held = held_out(made, SIZES)
    assert held
    assert held == held_out(made, SIZES)
    parts = split(made, SIZES, held=held)
    assert {row.account for row in parts.gate} <= held
    assert not {row.account for row in (*parts.train, *parts.calibration)} & held
    assert max(row.time for row in parts.calibration) < min(row.time for row in parts.gate)
    kept = sum(map(len, parts.named().values()))
    assert kept + parts.straddling + parts.held_out == len(made)
    assert len(parts.gate) + parts.held_out == sum(row.account in held for row in made)


def test_one_account_or_one_that_has_nearly_all_is_split_by_time() -> None:
    """Where no draw leaves enough on both sides nobody is held out."""
    assert held_out(rows({"only": 400}), SIZES) == frozenset()
    assert held_out(rows({"large": 400, "small": 10}), SIZES) == frozenset()


def test_nearly_the_same_of_two_accounts_is_not_learnt_from_and_asked() -> None:
    """A row of another account in the group of an evaluation row is left out."""
    made = rows({f"a{number}": 60 for number in range(10)})
    held = held_out(made, SIZES)
    names = {row.id: row.id for row in made}
    gate = split(made, SIZES, names, held=held).gate
    other = next(row for row in made if row.account not in held)
    parts = split(made, SIZES, names | {other.id: gate[0].id, gate[0].id: gate[0].id}, held=held)
    assert other not in (*parts.train, *parts.calibration)


def test_held_accounts_stay_held_with_frozen_evaluation_rows() -> None:
    """The next snapshot learns nothing from them either."""
    made = rows({f"a{number}": 60 for number in range(10)})
    held = held_out(made, SIZES)
    first = split(made, SIZES, held=held)
    others = [row for row in made if row not in first.gate]
    parts = split(others, SIZES, evaluation=first.gate, held=held)
    assert parts.gate == first.gate
    assert not {row.account for row in (*parts.train, *parts.calibration)} & held
