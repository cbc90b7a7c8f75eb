"""The disk budget: what spool and lake take is measured, and what they may take is a bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.ledger.disk import DiskBudget
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.spool import SpoolWriter
from tests.gateway.ledger.records import begun, record


def test_spool_and_lake_are_measured_and_nothing_else(tmp_path: Path) -> None:
    """Files at any depth count, other folders of the house do not, and a folder that is not there is empty."""
    disk = DiskBudget(tmp_path, 100)
    disk.measure()
    assert (disk.used_bytes, disk.has_room()) == (0, True)
    for name, size in (("spool/w0/1.seg", 40), ("lake/traffic/day=1/a.parquet", 50), ("logs/gateway.log", 1_000)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    disk.measure()
    assert (disk.used_bytes, disk.has_room()) == (90, True)
    (tmp_path / "spool/w0/2.seg").write_bytes(bytes(10))
    disk.measure()
    assert (disk.used_bytes, disk.has_room()) == (100, False)


def test_no_budget_is_no_bound(tmp_path: Path) -> None:
    """0 never refuses."""
    disk = DiskBudget(tmp_path, 0)
    disk.used_bytes = 10**15
    assert disk.has_room()


def test_at_its_end_only_what_was_begun_is_taken(tmp_path: Path) -> None:
    """A request under way keeps its record; a new one is refused with the setting that decides."""
    disk = DiskBudget(tmp_path, 1)
    writer = SpoolWriter(tmp_path / "spool", "w0", has_room=disk.has_room)
    writer.start(begun("a"))
    disk.measure()
    writer.final(record("a"))
    refusals: list[Callable[[], None]] = [
        lambda: writer.start(begun("b")),
        lambda: writer.final(record("c")),
        writer.check,
    ]
    for refused in refusals:
        with pytest.raises(SpoolUnavailable, match=r"spool\.budget_bytes.*gateway\.on_spool_failure"):
            refused()
    writer.close()
