"""A threshold on volume catches the busy, not the harvester."""

from __future__ import annotations

from detector.baselines import RequestRateThreshold, compare
from detector.observations import Observation
from detector.watch import Watch


def test_a_request_threshold_that_catches_the_harvester_catches_two_others(scene: list[Observation]) -> None:
    """On the scene's last day the classification and evaluation jobs send more requests and tokens."""
    requests, tokens = compare(scene, catch="harvester")
    for found in (requests, tokens):
        assert {"tickets", "evaluation"} <= set(found["also_caught"])


def test_baselines_run_on_the_detectors_own_frames(scene: list[Observation]) -> None:
    """The frame that detectors read serves the baselines as well."""
    watch = Watch()
    watch.advance(scene)
    frame = watch.features()
    flagged = frame["account"][RequestRateThreshold(quantile=0.5).fit(frame).predict(frame) == 1]
    assert "tickets" in set(flagged)
