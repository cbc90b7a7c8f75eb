"""How often a property test draws: the profile `quick`, of `make check`, sees a quarter of what `make test` does."""

from __future__ import annotations

from hypothesis import settings

FULL = 100
settings.register_profile("full", max_examples=FULL)
settings.register_profile("quick", max_examples=FULL // 4)


def examples(number: int) -> int:
    """Return how many examples a test draws that draws `number` in full; read when the test is defined."""
    default = settings.default
    assert default is not None
    return max(5, number * default.max_examples // FULL)
