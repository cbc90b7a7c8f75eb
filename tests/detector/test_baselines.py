"""A threshold on volume catches the busy, not the harvester."""

from __future__ import annotations

from detector.baselines import compare
from detector.columns import Columns


def test_a_request_threshold_that_catches_the_harvester_catches_two_others(scene: Columns) -> None:
    """On the scene's last day the classification and evaluation jobs send more requests and tokens."""
    requests, tokens = compare(scene, catch="harvester")
    for found in (requests, tokens):
        assert {"tickets", "evaluation"} <= set(found["also_caught"])
