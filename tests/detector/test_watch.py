"""Who is flagged, who is not, and when: statistical tests with a seed and a floor."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest

from detector import columns
from detector.columns import Columns
from detector.replay import replay
from detector.watch import Assessment, Watch
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import now
from tests.detector import histories
from tests.detector.histories import Record

MINIMUM = 30


@pytest.fixture(scope="module")
def watched(scene: Columns) -> Watch:
    """Return the watch after the scene."""
    watch = Watch(MINIMUM)
    watch.advance(scene)
    watch.finish()
    return watch


@pytest.fixture(scope="module")
def flagged(zoo: Columns) -> dict[str, int]:
    """Return the zoo's flagged accounts with how many requests came before."""
    rows = replay(zoo, MINIMUM, {})
    return {row["account"]: row["requests_before_alert"] for row in rows if row["first_alert_at"] is not None}


def test_the_harvester_is_flagged_within_200_live_requests(watched: Watch) -> None:
    """An account with fourteen days of ordinary use that begins to collect is flagged long before its 500th request."""
    crossing = watched.assess("harvester").crossing
    assert crossing is not None
    assert 0 < crossing.live_requests <= 200
    assert watched.assess("harvester").severity in ("medium", "high")


@pytest.mark.parametrize("account", ["chat", "rag", "tickets", "evaluation"])
def test_look_alikes_of_the_scene_raise_no_alert(watched: Watch, account: str) -> None:
    """Chat, retrieval, classification and evaluation are never flagged, however many requests they send."""
    assessment = watched.assess(account)
    assert assessment.crossing is None
    assert assessment.peak < 0.8 * watched.model.alert


def test_the_history_alone_flags_nobody(scene: Columns) -> None:
    """Fourteen days of ordinary use raise nothing, the later harvester's own included."""
    watch = Watch(MINIMUM)
    watch.advance(scene.take(~scene.live))
    watch.finish()
    assert watch.suspects() == []


def test_no_ordinary_account_of_the_zoo_is_flagged(flagged: dict[str, int]) -> None:
    """Eleven kinds of ordinary accounts, look-alikes of every way of harvesting, raise no alert."""
    assert {name for name in flagged if name.startswith("ordinary-")} == set()


def test_nearly_all_naive_harvesters_of_the_zoo_are_flagged(zoo: Columns, flagged: dict[str, int]) -> None:
    """Bulk, resampled, log-probability, chain-of-thought and slow collections are flagged, most within 250 requests."""
    names = {name for name in zoo.names if name.startswith("harvest-")}
    assert len(flagged.keys() & names) >= len(names) - 1
    early = [name for name in names if flagged.get(name, 10_000) <= 250]
    assert len(early) >= len(names) - 2


def test_a_slow_drip_adds_up(flagged: dict[str, int]) -> None:
    """A dozen requests a day are flagged too: evidence does not depend on pace."""
    assert flagged["harvest-drip"] <= 250


def test_scores_do_not_depend_on_how_rows_are_cut_into_rounds(scene: Columns) -> None:
    """The service, which sees a few rows a round, says what the replay says, to the request."""
    whole, rounds = Watch(MINIMUM), Watch(MINIMUM)
    whole.advance(scene)
    for start in range(0, len(scene), 97):
        rounds.advance(scene.take(np.arange(start, min(len(scene), start + 97))))
    for name in scene.names:
        assert rounds.assess(name).crossing == whole.assess(name).crossing
        assert rounds.assess(name).peak == pytest.approx(whole.assess(name).peak, rel=1e-3)


def test_below_the_minimum_it_abstains() -> None:
    """An account with fewer requests than the minimum is abstained on, whatever it asks."""
    rng = random.Random(1)
    rows = histories.best_of_n(rng, "few", histories.live(rng, 25))
    watch = Watch(MINIMUM)
    watch.advance(columns.read(histories.to_table(rows)))
    watch.finish()
    assessment = watch.assess("few")
    assert assessment.abstained
    assert (assessment.severity, assessment.score) == ("none", 0.0)
    assert assessment.crossing is None


def test_a_declared_use_counts_up_to_its_cap_and_until_its_end(scene: Columns) -> None:
    """A use that operators granted lowers the score and is named; beyond its cap, or after its end, it does nothing."""
    harvester = scene.take(scene.account == scene.names.index("harvester"))
    plain, allowed, beyond, ended = (
        _assessed(harvester, uses) for uses in ({}, _uses(2_000), _uses(10), _uses(2_000, days=-30))
    )
    assert plain.crossing is not None
    assert allowed.peak < 0.5 * plain.peak
    assert allowed.lowered_by == "a synthetic corpus"
    assert (beyond.peak, beyond.lowered_by) == (plain.peak, None)
    assert (ended.peak, ended.lowered_by) == (plain.peak, None)


def test_without_text_fingerprints_are_enough() -> None:
    """Where no text is kept the same harvester is found by fingerprints, and the reasons say what can't be seen."""
    rows = [histories.without_text(row) for row in _harvester_rows()]
    (found,) = replay(columns.read(histories.to_table(rows)), MINIMUM, {})
    assert found["first_alert_at"] is not None
    assert any("texts are not kept" in reason["text"] for reason in found["reasons"])


def test_without_fingerprints_usage_alone_convicts_nobody_of_much() -> None:
    """With neither text nor fingerprint the detector goes on, says so, and stays below high."""
    names = ("messages", "fingerprint")
    rows = [{k: v for k, v in row.items() if k not in names} for row in _harvester_rows()]
    (found,) = replay(columns.read(histories.to_table(rows)), MINIMUM, {})
    assert found["severity"] != "high" or any("no fingerprints" in reason["text"] for reason in found["reasons"])


def _harvester_rows() -> list[Record]:
    rng = random.Random(3)
    return [
        *histories.ordinary_use(rng, "harvester", histories.history(rng, 20)),
        *histories.bulk(rng, "harvester", histories.live(rng, 300)),
    ]


def _uses(cap: int, days: int = 1) -> dict[str, list[DeclaredUse]]:
    until = histories.LIVE + timedelta(days=days)
    return {"harvester": [DeclaredUse("1", "harvester", "a synthetic corpus", cap, until, now())]}


def _assessed(rows: Columns, uses: dict[str, list[DeclaredUse]]) -> Assessment:
    watch = Watch(MINIMUM, uses)
    watch.advance(rows)
    watch.finish()
    return watch.assess("harvester")
