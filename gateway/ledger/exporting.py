"""Taking traffic out: rows of the lake as one Parquet file, in the columns of `traffic.SCHEMA`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gateway.ledger import durable, retention
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.traffic import SCHEMA


@dataclass(frozen=True)
class Choice:
    """Which rows: of an account, from `since` on and before `until`, where given; `with_text`: prompts and answers."""

    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    with_text: bool = True


def export(lake: Lake, file: Path, choice: Choice) -> int:
    """Write the chosen rows, a batch at a time, and return how many; the file appears when it is whole."""
    building = file.with_name(f".{file.name}.{os.getpid()}")
    rows = 0
    try:
        # Whoever may read the lake decides who may read a copy.
        os.close(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with pq.ParquetWriter(building, SCHEMA, compression="zstd") as writer:
            for batch in lake.batches(SCHEMA.names, _filter(choice)):
                writer.write_table(batch if choice.with_text else retention.without_text(batch))
                rows += batch.num_rows
        os.replace(building, file)
    finally:
        building.unlink(missing_ok=True)
    durable.sync_path(file.parent)
    return rows


def _filter(choice: Choice) -> pc.Expression | None:
    chosen: pc.Expression | None = None
    for part in (
        None if choice.account is None else pc.field("account") == choice.account,
        None if choice.since is None else pc.field("time") >= millisecond(choice.since),
        None if choice.until is None else pc.field("time") < millisecond(choice.until),
    ):
        if part is not None:
            chosen = part if chosen is None else chosen & part
    return chosen
