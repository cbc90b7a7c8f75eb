"""Who is flagged, who is not, and when: statistical tests with a seed and a floor."""

from __future__ import annotations

import random

import pytest

from detector.observations import Observation, observe
from detector.replay import replay
from detector.watch import Watch
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import now
from tests.detector import histories
from tests.detector.histories import Record

MINIMUM = 30


@pytest.fixture(scope="module")
def watched(scene: list[Observation]) -> Watch:
    """Return the watch after the scene."""
    watch = Watch(MINIMUM)
    watch.advance(scene)
    return watch


@pytest.fixture(scope="module")
def flagged(zoo: list[Observation]) -> dict[str, int]:
    """Return the zoo's flagged accounts with how many requests came before."""
    rows = replay(zoo, MINIMUM, {})
    return {row["account"]: row["requests_before_alert"] for row in rows if row["first_alert_at"] is not None}


def test_the_harvester_is_flagged_within_200_live_requests(watched: Watch) -> None:
    """An account with fourteen days of ordinary use that begins to collect is flagged long before its 500th request."""
    crossing = watched.tracked["harvester"].crossing
    assert crossing is not None
    assert 0 < crossing.live_requests <= 200
    assert watched.assess("harvester").severity == "high"


@pytest.mark.parametrize("account", ["chat", "rag", "tickets", "evaluation"])
def test_look_alikes_of_the_scene_stay_far_from_an_alert(watched: Watch, account: str) -> None:
    """Chat, retrieval, classification and evaluation are never flagged, however many requests they send."""
    assert watched.tracked[account].crossing is None
    assert watched.tracked[account].peak < 0.25


def test_the_history_alone_flags_nobody(scene: list[Observation]) -> None:
    """Fourteen days of ordinary use raise nothing, the later harvester's own included."""
    watch = Watch(MINIMUM)
    watch.advance(seen for seen in scene if not seen.live)
    assert watch.suspects() == []


@pytest.mark.slow
def test_no_ordinary_account_of_the_zoo_is_flagged(flagged: dict[str, int]) -> None:
    """Eleven kinds of ordinary accounts, look-alikes of every way of harvesting, raise no alert."""
    assert {name for name in flagged if name.startswith("ordinary-")} == set()


@pytest.mark.slow
def test_nearly_all_naive_harvesters_of_the_zoo_are_flagged(zoo: list[Observation], flagged: dict[str, int]) -> None:
    """Bulk, resampled, log-probability, chain-of-thought and slow collections are flagged, most within 250 requests."""
    names = {seen.account for seen in zoo if seen.account.startswith("harvest-")}
    assert len(flagged.keys() & names) >= len(names) - 1
    early = [name for name in names if flagged.get(name, 10_000) <= 250]
    assert len(early) >= len(names) - 2


@pytest.mark.slow
def test_a_slow_drip_adds_up(flagged: dict[str, int]) -> None:
    """A dozen requests a day are flagged too: evidence does not depend on pace."""
    assert flagged["harvest-drip"] <= 250


def test_scores_do_not_depend_on_how_rows_are_cut_into_rounds(scene: list[Observation]) -> None:
    """The service, which sees a few rows a round, says to the last digit what the replay says."""
    whole, rounds = Watch(MINIMUM), Watch(MINIMUM)
    part = [seen for seen in scene if seen.account in ("harvester", "chat")]
    whole.advance(part)
    for start in range(0, len(part), 37):
        rounds.advance(part[start : start + 37])
    assert {name: whole.tracked[name].peak for name in whole.tracked} == {
        name: rounds.tracked[name].peak for name in rounds.tracked
    }
    assert whole.tracked["harvester"].crossing == rounds.tracked["harvester"].crossing


def test_below_the_minimum_it_abstains() -> None:
    """An account with fewer requests than the minimum is abstained on, whatever it asks."""
    rng = random.Random(1)
    rows = histories.best_of_n(rng, "few", histories.live(rng, 25))
    watch = Watch(MINIMUM)
    watch.advance(observe(histories.to_table(rows)))
    assessment = watch.assess("few")
    assert assessment.abstained
    assert assessment.severity == "none"
    assert assessment.crossing is None


def test_a_declared_use_lowers_the_severity_and_not_the_score(scene: list[Observation]) -> None:
    """A use declared within its cap is shown and lowers the severity a step; beyond its cap it does nothing."""
    harvester = [seen for seen in scene if seen.account == "harvester"]
    plain, allowed, beyond = (_severity(harvester, uses) for uses in ({}, _uses(2_000), _uses(100)))
    assert plain == ("high", plain[1])
    assert allowed == ("medium", plain[1])
    assert beyond == plain


def test_without_text_fingerprints_are_enough() -> None:
    """Where no text is kept the same harvester is found by fingerprints, and the reasons say what can't be seen."""
    rows = [histories.without_text(row) for row in _harvester_rows()]
    (found,) = replay(observe(histories.to_table(rows)), MINIMUM, {})
    assert found["first_alert_at"] is not None
    assert any("texts are not kept" in reason["text"] for reason in found["reasons"])


def test_without_fingerprints_usage_alone_convicts_nobody_of_much() -> None:
    """With neither text nor fingerprint the detector goes on, says so, and stays below high."""
    names = ("messages", "fingerprint")
    rows = [{k: v for k, v in row.items() if k not in names} for row in _harvester_rows()]
    (found,) = replay(observe(histories.to_table(rows)), MINIMUM, {})
    assert found["severity"] != "high" or any("no fingerprints" in reason["text"] for reason in found["reasons"])


def _harvester_rows() -> list[Record]:
    rng = random.Random(3)
    return [
        *histories.ordinary_use(rng, "harvester", histories.history(rng, 20)),
        *histories.bulk(rng, "harvester", histories.live(rng, 300)),
    ]


def _uses(cap: int) -> dict[str, list[DeclaredUse]]:
    return {"harvester": [DeclaredUse("1", "harvester", "a synthetic corpus", cap, None, now())]}


def _severity(seen: list[Observation], uses: dict[str, list[DeclaredUse]]) -> tuple[str, float]:
    watch = Watch(MINIMUM, uses)
    watch.advance(seen)
    assessment = watch.assess("harvester")
    return assessment.severity, assessment.score
