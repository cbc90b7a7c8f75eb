"""A clock that jumps: frames are numbered, not dated, so nothing is lost, doubled or held up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.ledger import spool, traffic
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import maintain
from gateway.ledger.rehashing import rehash
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.verification import verify
from gateway.settings import Settings
from tests.gateway.ledger.records import begun, record

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(hours=-1), timedelta(days=400)], ids=str)
def test_a_jump_changes_the_day_and_nothing_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    """Requests before, across and after a jump are recorded once; a day that was over may get rows again."""
    moment = [NOON]
    for module in (spool, traffic):
        monkeypatch.setattr(module, "now", lambda: moment[0])
    writer = SpoolWriter(settings.data_dir / "spool", "w0", segment_bytes=1_000)
    ingester, lake = Ingester(settings, dict), Lake(settings.data_dir / "lake" / "traffic")
    version, seen = -1, []
    for life, at in enumerate((NOON, NOON + jump, NOON)):
        moment[0] = at
        writer.final(record(f"across{life - 1}"))
        writer.start(begun(f"across{life}"))
        for number in range(5):
            writer.final(record(f"{life}-{number}"))
        assert ingester.run_once() == 6
        rows, version = lake.follow(version, ["id"])
        seen += rows["id"].to_pylist()
        assert [report.step for report in maintain(settings)]
    assert len(set(seen)) == len(seen) == 18
    assert set(lake.days()) == {(NOON + shift).date().isoformat() for shift in (timedelta(0), jump)}
    (report,) = verify(settings)
    assert (report.is_sound, report.completed, report.recorded, report.under_way) == (True, 18, 18, 1)
    assert rehash(settings).is_sound
    writer.close()
