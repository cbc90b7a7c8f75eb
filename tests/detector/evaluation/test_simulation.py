"""The simulator keeps to its seed, to the traffic record, and to the protocol's rules."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from detector.evaluation.planning import FULL, Plan, Size, World
from detector.evaluation.simulation import START, account_line, simulate
from gateway.ledger.content import text_of
from gateway.ledger.database import open_database
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.importing import import_accounts
from gateway.ledger.validation import validate
from gateway.settings import load_settings


def _one_of_each(plans: list[Plan]) -> list[Plan]:
    return list({plan.code: plan for plan in plans}.values())


def test_every_strategy_and_every_look_alike_is_there(world: World) -> None:
    """Seventeen attacks in about forty cells, sixteen look-alikes, two hundred campaigns in a full run."""
    assert [strategy.code for strategy in world.attacks] == [f"A{number}" for number in range(1, 18)]
    assert [profile.code for profile in world.benign] == [f"B{number}" for number in range(1, 17)]
    cells = sum(len(strategy.cells) for strategy in world.attacks)
    assert 38 <= cells <= 44
    assert cells * FULL.campaigns >= 200


def test_the_same_seed_makes_the_same_records(world: World, plans: list[Plan]) -> None:
    """To the byte, whatever was made before; another seed makes others."""
    again = world.plan(Size(60, 1, 60), 5)
    plan = plans[3]
    assert list(simulate(plan, world).lines()) == list(simulate(again[3], world).lines())
    other = world.plan(Size(60, 1, 60), 6)
    assert list(simulate(other[3], world).lines()) != list(simulate(plan, world).lines())


def test_records_are_valid_in_time_order_and_within_the_month(world: World, plans: list[Plan]) -> None:
    """Every type's records pass the traffic record's validation and lie in 28 days, each later than the one before."""
    for plan in _one_of_each(plans):
        records = simulate(plan, world).records
        times = [from_rfc3339(record["time"]) for record in records]
        assert all(earlier < later for earlier, later in itertools.pairwise(times)), plan.code
        assert 0 <= (times[0] - START).days <= (times[-1] - START).days < 28, plan.code
        assert [problem for record in records for problem in validate(json.loads(json.dumps(record)))] == []


def test_truth_marks_harvesting_and_spares_cover(world: World, plans: list[Plan]) -> None:
    """Look-alikes never harvest, a harvester's own life neither; half to four fifths of a cover are ordinary."""
    by_code = {plan.code: plan for plan in plans}
    assert not simulate(by_code["B4"], world).harvest.any()
    harvesters = [plan for plan in plans if plan.code in ("A1", "A9")]
    assert any(plan.beside for plan in harvesters)
    for plan in harvesters[:20]:
        assert simulate(plan, world).harvest.sum() == plan.requests
    covered = [simulate(plan, world).harvest for plan in plans if plan.code == "A10"]
    share = sum(part.sum() for part in covered) / sum(len(part) for part in covered)
    assert 0.1 < share < 0.6


def test_records_say_nothing_of_the_truth(world: World, plans: list[Plan]) -> None:
    """Neither a record nor an account's line has the type, the cell or a label in it."""
    for plan in _one_of_each(plans):
        line = next(simulate(plan, world).lines()) + account_line(plan)
        assert "harvest" not in line
        assert "labels" not in line
        assert '"A' + plan.code[1:] not in line


def test_answers_go_with_the_corpus_never_with_the_type(world: World, plans: list[Plan]) -> None:
    """Whether records carry answers depends on the corpus alone."""
    for plan in _one_of_each(plans):
        answered = any("response" in record for record in simulate(plan, world).records)
        assert not answered or plan.corpus.has_answers, plan.code


def test_members_of_a_campaign_share_a_pool_and_no_prompts(world: World) -> None:
    """Shards of one pool: the members ask about disjoint items of one corpus, but for what all of them ask."""
    plans = [plan for plan in world.plan(Size(20, 1, 200), 1) if plan.cell == "A9 10×20k"]
    assert len({plan.corpus.name for plan in plans}) == 1

    def most_shared(overlap: float) -> int:
        campaigns = [plan.campaign for plan in plans if plan.campaign is not None]
        members = [
            replace(plan, campaign=replace(campaign, overlap=overlap), beside=())
            for plan, campaign in zip(plans, campaigns, strict=True)
        ]
        asked = [{text_of(record) for record in simulate(plan, world).records} for plan in members]
        return max(Counter(text for texts in asked for text in texts).values())

    assert most_shared(0.0) == 1
    assert most_shared(1.0) > 1


def test_accounts_import_with_their_declared_uses(plans: list[Plan], tmp_path: Path) -> None:
    """The accounts' lines are what `spiritsafe accounts import` takes, declared uses included."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text('[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:8001"]\n')
    settings = load_settings(file, {"SPIRITSAFE_DATA_DIR": str(tmp_path / "data")})
    database = open_database(settings.database_url)
    chosen = [plan for plan in plans if plan.declared][:2] + plans[:3]
    report = import_accounts(map(account_line, chosen), settings, database, "test")
    database.close()
    assert report.rows == len({plan.account for plan in chosen})
    assert report.refused == 0


@pytest.mark.parametrize("pace", ["whole", "window", "nightly", "drip"])
def test_every_pace_lays_out_as_many_requests_as_planned(world: World, plans: list[Plan], pace: str) -> None:
    """However they lie in the month, none is lost."""
    plan = next(plan for plan in plans if plan.timing.pace == pace)
    assert len(simulate(plan, world).records) == plan.total
