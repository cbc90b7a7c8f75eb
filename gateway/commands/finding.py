"""What a check of `spiritsafe doctor` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and where it is not right, the `remedy`.

    An `error` keeps the house from serving or loses something; a `warning` will, or might.
    """

    check: str
    subject: str
    state: State
    found: str
    remedy: str = ""


Findings = Iterator[Finding]
