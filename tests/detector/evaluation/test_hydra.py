"""Large campaigns are measured by the day: members found, what leaked, how pure the sets are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.evaluation.hydra import hydras, no_sets
from detector.evaluation.measuring import Table
from detector.evaluation.planning import Plan
from detector.evaluation.reading import Reading
from detector.evaluation.simulation import START_S
from detector.sketch import DAY_S

MEMBERS, ORDINARY, A_DAY, LENGTH = 20, 10, 30, 8


@pytest.fixture
def table(plans: list[Plan]) -> Table:
    """Return a campaign of twenty accounts and ten ordinary ones, thirty requests a day for eight days each."""
    attack = next(plan for plan in plans if plan.is_attack)
    benign = next(plan for plan in plans if not plan.is_attack)
    made = [replace(attack, number=number, group="hydra", template="hydra") for number in range(MEMBERS)]
    made += [replace(benign, number=MEMBERS + number, template=f"t{number}") for number in range(ORDINARY)]
    times = START_S + np.arange(A_DAY * LENGTH) * (DAY_S / A_DAY)
    return Table([_reading(plan, times) for plan in made], draws=30, seed=0)


def _reading(plan: Plan, times: np.ndarray) -> Reading:
    return Reading(plan, times, np.ones(len(times), np.int64), np.full(len(times), plan.is_attack))


def test_members_found_and_answers_leaked_by_the_day(table: Table) -> None:
    """Half of the members at the end of the first day, the rest at the end of the fourth."""
    alert = np.full(MEMBERS + ORDINARY, -1)
    alert[: MEMBERS // 2] = A_DAY
    alert[MEMBERS // 2 : MEMBERS] = 4 * A_DAY
    found = hydras(table, alert, no_sets(len(alert)))
    assert [found.by_day[day].found.value for day in (2, 5, 14)] == [0.5, 1.0, 1.0]
    # By the second day: one day of the one half, two days (and the request at the stroke of midnight) of the other.
    assert found.by_day[2].leaked.value == pytest.approx((1 + 2) / 2 / LENGTH, abs=0.01)
    assert found.by_day[14].leaked.value == pytest.approx((1 + 4) / 2 / LENGTH)
    assert np.isnan(found.by_day[14].purity.value)
    assert (found.campaigns, found.flagged_sets) == (1, 0)
    assert np.isnan(found.false_sets.value), "who links nobody has not been measured"


def test_purity_counts_who_does_not_belong_and_sets_of_ordinary_accounts_are_false(table: Table) -> None:
    """Five strangers in the campaign's set of twenty-five; three ordinary accounts in a flagged set of their own."""
    alert = np.full(MEMBERS + ORDINARY, -1)
    alert[[0, MEMBERS + 6]] = A_DAY
    sets = no_sets(len(alert))
    sets[: MEMBERS + 5, 1:] = 7
    sets[MEMBERS + 6 : MEMBERS + 9, 3:9] = 8
    sets[MEMBERS + 9 :, 3:9] = 9  # nobody has flagged it
    found = hydras(table, alert, sets)
    assert found.by_day[2].purity.value == pytest.approx(MEMBERS / (MEMBERS + 5))
    assert (found.flagged_sets, found.false_sets.value) == (2, 1.0)
    assert found.false_sets.low < 1.0 < found.false_sets.high
