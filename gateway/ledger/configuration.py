"""What the ledger needs to be told: the settings stand above it and are handed in, so it names only their shape."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class BucketSettings(Protocol):
    """The `[s3]` section."""

    @property
    def endpoint(self) -> str:
        """Where the store answers; empty: as AWS's own environment says."""
        ...

    @property
    def region(self) -> str:
        """The bucket's region; empty: as AWS's own environment says."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for an answer."""
        ...

    def keys(self) -> tuple[str, str] | None:
        """Return the id and the secret of the key; None: as AWS's own environment says."""
        ...


class Place(Protocol):
    """Settings that say where everything is written to."""

    @property
    def data_dir(self) -> Path:
        """The one folder of the installation."""
        ...

    @property
    def lake(self) -> str:
        """The address of the lake's bucket and prefix; empty: in `data_dir`."""
        ...

    @property
    def s3(self) -> BucketSettings:
        """How to reach it."""
        ...


class Pace(Protocol):
    """The `[spool]` section, as far as the ingester reads it."""

    @property
    def ingest_interval_s(self) -> float:
        """Seconds between two looks into the spool."""
        ...

    @property
    def decoders(self) -> int:
        """Processes that decode a backlog beside the ingester."""
        ...


class IngesterSettings(Place, Protocol):
    """What the ingester is told."""

    @property
    def spool(self) -> Pace:
        """How often to look."""
        ...


class ModelRetention(Protocol):
    """An entry of `[[retention.models]]`; None: as `[retention]` says, 0: no end."""

    @property
    def name(self) -> str:
        """The model that answered."""
        ...

    @property
    def text_days(self) -> int | None:
        """Days after which texts go."""
        ...

    @property
    def rows_days(self) -> int | None:
        """Days after which the whole row goes."""
        ...


class GeneralRetention(Protocol):
    """The `[retention]` section; 0: no end."""

    @property
    def text_days(self) -> int:
        """Days after which texts go."""
        ...

    @property
    def rows_days(self) -> int:
        """Days after which the whole row goes."""
        ...

    @property
    def models(self) -> Sequence[ModelRetention]:
        """Other days for some models."""
        ...


class RetentionSettings(Place, Protocol):
    """What retention is told."""

    @property
    def retention(self) -> GeneralRetention:
        """How long what is kept."""
        ...
