"""Benign look-alikes: one profile a file."""

from __future__ import annotations

import sys
from pathlib import Path

from detector.evaluation.profiles import Profile
from detector.evaluation.registry import found_in_folder, found_in_package


def benign_profiles(additions: Path | None = None) -> list[Profile]:
    """Return the profiles by code; `additions`: a folder of further ones as Python files."""
    found = [*found_in_package(sys.modules[__name__], Profile), *found_in_folder(additions, Profile)]
    return sorted({profile.code: profile for profile in found}.values(), key=lambda each: int(each.code[1:]))
