"""What the detector's tests share: simulated traffic, read once a session because fingerprints cost time."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from detector import columns
from detector.columns import Columns
from tests.detector import histories
from tests.detector.histories import Record

SEED = 11


@pytest.fixture(scope="session")
def scene_rows() -> list[Record]:
    """Return the demo's five accounts: fourteen days of history, then live."""
    return histories.scene(SEED)


@pytest.fixture(scope="session")
def scene(scene_rows: list[Record]) -> Columns:
    """Return the scene as the detector sees it."""
    return columns.read(histories.to_table(scene_rows))


@pytest.fixture(scope="session")
def zoo() -> Columns:
    """Return ten days of every ordinary and every harvesting account, each alike in volume and hours."""
    rng = random.Random(SEED)
    rows: list[Record] = []
    for name, kind in histories.ORDINARY.items():
        nights = [histories.START + timedelta(days=d, hours=2, seconds=3 * i) for d in range(5) for i in range(120)]
        times = nights if name == "evaluation" else histories.history(rng, 40, 10)
        rows += kind(rng, f"ordinary-{name}", times)
    for name, kind in histories.HARVESTING.items():
        rows += kind(rng, f"harvest-{name}", histories.history(rng, 40, 10))
    rows += histories.bulk(rng, "harvest-drip", histories.history(rng, 14, 24))
    return columns.read(histories.to_table(rows))
