"""What is measured is the detector that ships."""

from __future__ import annotations

import numpy as np
import pytest

from detector import columns, features
from detector.evaluation.learnt import Fits, LearntDetector
from detector.evaluation.planning import Plan, World
from detector.evaluation.reading import Reading
from detector.evaluation.simulation import simulate
from detector.watch import Watch
from gateway.ledger import fingerprint, traffic


@pytest.mark.parametrize("code", ["A1", "A7", "B8"])
def test_alerts_come_at_the_request_at_which_the_watch_raises_them(world: World, plans: list[Plan], code: str) -> None:
    """Account by account the contender says what the watch says, to the request."""
    detector = LearntDetector(Fits())
    chosen = [plan for plan in plans if plan.code == code][:3]
    histories = [simulate(plan, world) for plan in chosen]
    records = [record for one in histories for record in one.records]
    rows = columns.read(traffic.to_table(fingerprint.complete_all(records)))
    names = [plan.account for plan in chosen]
    places = np.array([names.index(name) for name in rows.names])[rows.account]
    signals = detector.read(rows, places, [one.harvest for one in histories])
    watch = Watch()
    watch.advance(rows)
    watch.finish()
    for plan, history, signal in zip(chosen, histories, signals, strict=True):
        own = rows.take(rows.account == rows.names.index(plan.account))
        reading = Reading(plan, own.time, own.output.astype(np.int64), history.harvest, {detector.name: signal})
        crossing = watch.assess(plan.account).crossing
        if plan.declared is None:
            assert detector.alerts([reading]).tolist() == [-1 if crossing is None else crossing.requests]
            assert detector.scores([reading]).max() == pytest.approx(watch.assess(plan.account).peak, abs=1e-5)


def test_without_a_channel_nothing_of_it_is_left() -> None:
    """Without content sizes and parameters remain; fingerprints, wording and conversations don't."""
    values = np.zeros((1, len(features.NAMES)), np.float32)
    lost = dict(zip(features.NAMES, features.masked(values, "content")[0].tolist(), strict=True))
    gone = ("novelty_slow", "items_count", "alike", "grades_slow", "leaked_month", "talk_length")
    assert all(np.isnan(lost[name]) for name in gone)
    assert all(lost[name] == 0 for name in ("log_in_slow", "output_month", "many_slow", "networks_count"))
