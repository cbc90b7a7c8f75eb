"""Every estimator of the detector passes the conformance suite."""

from __future__ import annotations

from typing import Any

import pytest

from detector.baselines import RequestRateThreshold, TokenThreshold
from tests.detector.checks import check_detector


@pytest.mark.parametrize(
    "estimator",
    [RequestRateThreshold(), TokenThreshold()],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimators_conform(estimator: Any) -> None:
    """Detectors store in `__init__`, learn in `fit`, score higher for the more abnormal, and repeat themselves."""
    check_detector(estimator)
