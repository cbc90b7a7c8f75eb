"""What these tests share: a small world of our own prompts and rates."""

from __future__ import annotations

import pytest

from detector.evaluation.attacks import attack_strategies
from detector.evaluation.benign import benign_profiles
from detector.evaluation.corpora import load_corpora
from detector.evaluation.planning import Plan, Size, World
from detector.evaluation.traces import load_clients

TINY = Size(accounts=60, campaigns=1, most_answers=60)
SEED = 5


@pytest.fixture(scope="session")
def world() -> World:
    """Return a world that needs no corpora."""
    return World(load_corpora(None), load_clients(None), benign_profiles(), attack_strategies())


@pytest.fixture(scope="session")
def plans(world: World) -> list[Plan]:
    """Return a tiny world's accounts."""
    return world.plan(TINY, SEED)
