"""What is measured is the detector that ships."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from detector.evaluation.planning import Plan, World
from detector.evaluation.present import PresentDetector, without_content
from detector.evaluation.reading import Reading
from detector.evaluation.simulation import START, simulate
from detector.observations import Observation, observe
from detector.watch import Watch
from gateway.ledger import fingerprint, traffic
from gateway.ledger.identifiers import from_rfc3339


def _reading(plan: Plan, world: World, detector: PresentDetector) -> tuple[Reading, list[Observation]]:
    history = simulate(plan, world)
    # Until the Wednesday night the watch compares with the built-in reference alone, as the unfitted contender does.
    records = [one for one in history.records if from_rfc3339(one["time"]) < START + timedelta(days=3)]
    seen = observe(traffic.to_table([fingerprint.complete(record) for record in records]))
    times = np.array([one.time for one in seen])
    reading = Reading(plan, times, np.zeros(len(seen), dtype=np.int64), history.harvest[: len(seen)])
    reading.kept[detector.name] = detector.read(seen)
    return reading, seen


@pytest.mark.parametrize("code", ["A1", "A7", "B8"])
def test_alerts_come_at_the_request_at_which_the_watch_raises_them(world: World, plans: list[Plan], code: str) -> None:
    """Account by account the replay says what the watch says, to the request."""
    detector = PresentDetector()
    for plan in [plan for plan in plans if plan.code == code][:3]:
        moved = _at_the_beginning(plan)
        reading, seen = _reading(moved, world, detector)
        watch = Watch()
        watch.advance(seen)
        tracked = watch.tracked[moved.account]
        expected = -1 if tracked.crossing is None else tracked.crossing.requests
        assert detector.alerts([reading]).tolist() == [expected]
        if tracked.crossing is None:
            assert detector.scores([reading]).max() == pytest.approx(tracked.peak, abs=1e-6)


def _at_the_beginning(plan: Plan) -> Plan:
    return replace(plan, timing=replace(plan.timing, pace="window", first=0.0, last=2.5), requests=120)


def test_without_content_nothing_of_the_text_is_left(world: World, plans: list[Plan]) -> None:
    """Sizes and parameters remain; fingerprints, wording and conversations don't."""
    _, seen = _reading(_at_the_beginning(plans[0]), world, PresentDetector())
    blind = without_content(seen[0])
    assert (blind.minhash, blind.embedding, blind.skeleton, blind.has_text) == (None, None, None, False)
    assert (blind.output, blind.input, blind.choices) == (seen[0].output, seen[0].input, seen[0].choices)
