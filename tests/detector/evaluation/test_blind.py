"""The strategies and look-alikes of somebody who has not seen the detector load, and make a month like the others."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from detector.evaluation.attacks import attack_strategies
from detector.evaluation.benign import benign_profiles
from detector.evaluation.corpora import load_corpora
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.profiles import Profile, Strategy
from detector.evaluation.registry import found_in_folder
from detector.evaluation.simulation import History, simulate
from detector.evaluation.traces import load_clients
from gateway.ledger.content import text_of
from gateway.ledger.validation import validate
from tests import detector
from tests.detector.blind.shell_products import field

BLIND = Path(detector.__file__).parent / "blind"
ATTACKS, LOOK_ALIKES = {"A18", "A19", "A20"}, {"B17", "B18", "B19"}
TINY = Size(accounts=40, campaigns=1, most_answers=90)


@pytest.fixture(scope="module")
def blind() -> World:
    """Return a world of these files alone."""
    profiles, strategies = found_in_folder(BLIND, Profile), found_in_folder(BLIND, Strategy)
    return World(load_corpora(None), load_clients(None), profiles, strategies)


@pytest.fixture(scope="module")
def month(blind: World) -> list[History]:
    """Return a tiny month of it, the largest accounts left out."""
    return [simulate(plan, blind) for plan in blind.plan(TINY, 3) if plan.total < 300]


def test_they_join_the_others() -> None:
    """`--additions` finds three of each, under codes that nothing else has."""
    attacks = [strategy.code for strategy in attack_strategies(BLIND)]
    benign = [profile.code for profile in benign_profiles(BLIND)]
    assert set(attacks) - {strategy.code for strategy in attack_strategies()} == ATTACKS
    assert set(benign) - {profile.code for profile in benign_profiles()} == LOOK_ALIKES
    assert len(set(attacks + benign)) == len(attacks + benign)


def test_a_month_with_them_is_made_of_valid_records(month: list[History]) -> None:
    """Every type has accounts, every record passes the traffic record's validation, and look-alikes never harvest."""
    assert {history.plan.code for history in month} == ATTACKS | LOOK_ALIKES
    for history in month:
        problems = [problem for row in history.records[:60] for problem in validate(json.loads(json.dumps(row)))]
        assert problems == [], history.plan.code
        assert history.harvest.any() == (history.plan.code in ATTACKS)


def test_the_same_seed_makes_the_same_month(blind: World, month: list[History]) -> None:
    """Nothing in these files draws from anything but the account's seed."""
    for history in {history.plan.code: history for history in month}.values():
        assert simulate(history.plan, blind).records == history.records


@pytest.mark.parametrize("code", sorted(ATTACKS | LOOK_ALIKES))
def test_no_type_has_a_fixed_giveaway(blind: World, code: str) -> None:
    """Within a type, accounts differ in software, hour, temperature, network, opening words and system prompt."""
    plans = _of_many_seeds(blind, code)
    first = [simulate(plan, blind).records[0] for plan in plans]
    views = {
        "software": {row["client"]["user_agent"] for row in first},
        "hour": {row["time"][11:13] for row in first},
        "temperature": {row["parameters"].get("temperature") for row in first},
        "network": {row["client"]["network"] for row in first},
        "words": {text_of(row)[:25] for row in first},
        "end users": {"user" in row for row in first},
    }
    assert {name: len(seen) for name, seen in views.items() if len(seen) < (2 if name == "end users" else 3)} == {}


@pytest.mark.parametrize("companies", [7, 30, 100])
def test_companies_of_a_portfolio_share_no_item(companies: int) -> None:
    """Each shell product has a field of its own, however many there are, and none of the corpus is left out."""
    corpus = load_corpora(None)[0]
    fields = [field(corpus, rank, companies) for rank in range(companies)]
    assert all(fields)
    assert Counter(item for one in fields for item in one) == Counter(corpus.items)


def _of_many_seeds(blind: World, code: str) -> list[Plan]:
    """Return 15 small accounts of a type, no two of one group."""
    found: dict[tuple[int, str], Plan] = {}
    for seed in itertools.count():
        found |= {(seed, plan.group): plan for plan in blind.plan(Size(30, 1, 60), seed) if _is_small(plan, code)}
        if len(found) >= 15:
            break
    return list(found.values())[:15]


def _is_small(plan: Plan, code: str) -> bool:
    return plan.code == code and plan.total < 250 and (plan.campaign is None or plan.campaign.rank == 0)
