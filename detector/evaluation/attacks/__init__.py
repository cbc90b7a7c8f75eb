"""Attack strategies: one a file."""

from __future__ import annotations

import sys
from pathlib import Path

from detector.evaluation.profiles import Strategy
from detector.evaluation.registry import found_in_folder, found_in_package


def attack_strategies(additions: Path | None = None) -> list[Strategy]:
    """Return the strategies by code; `additions`: a folder of further ones as Python files."""
    found = [*found_in_package(sys.modules[__name__], Strategy), *found_in_folder(additions, Strategy)]
    return sorted({strategy.code: strategy for strategy in found}.values(), key=lambda each: int(each.code[1:]))
