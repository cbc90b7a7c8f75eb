"""What the ledger needs to be told: the settings stand above it and are handed in, so it names only their shape."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """Settings that say where everything is written to."""

    @property
    def data_dir(self) -> Path:
        """The one folder of the installation."""
        ...


class Pace(Protocol):
    """The `[spool]` section, as far as the ingester reads it."""

    @property
    def ingest_interval_s(self) -> float:
        """Seconds between two looks into the spool."""
        ...


class IngesterSettings(Place, Protocol):
    """What the ingester is told."""

    @property
    def spool(self) -> Pace:
        """How often to look."""
        ...
